"""The words of a fastText model by its own hash, for the kernels that answer in its place: an open-addressing table."""

import numpy as np

from raypt.kernels import allocating_kernel, kernel


@kernel
def insert(hashes, slots):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Fill the open-addressing table `slots` (-1: free) with word indices by their hash."""
    mask = len(slots) - 1
    for word in range(len(hashes)):
        at = np.int64(hashes[word]) & mask
        while slots[at] >= 0:
            at = (at + 1) & mask
        slots[at] = word


FIRST = np.uint32(2166136261)
"""The hash of no bytes."""


@kernel
def hash_byte(h, byte):  # type: ignore[no-untyped-def]  # pragma: no cover
    """fastText's 32-bit hash of a byte more: FNV-1a over signed bytes."""
    b = np.uint32(byte)
    return np.uint32((h ^ (b | np.uint32(0xFFFFFF00) if b >= 128 else b)) * np.uint32(16777619))


@kernel
def hash_word(data, start, stop):  # type: ignore[no-untyped-def]  # pragma: no cover
    h = FIRST
    for i in range(start, stop):
        h = hash_byte(h, data[i])
    return h


@allocating_kernel
def hash_words(data, offsets):  # type: ignore[no-untyped-def]  # pragma: no cover
    out = np.empty(len(offsets) - 1, np.uint32)
    for word in range(len(offsets) - 1):
        out[word] = hash_word(data, offsets[word], offsets[word + 1])
    return out


@kernel
def equal(a, a_start, b, b_start, n):  # type: ignore[no-untyped-def]  # pragma: no cover
    k = 0
    while k < n and a[a_start + k] == b[b_start + k]:
        k += 1
    return k == n


@kernel
def find(data, start, stop, h, words, offsets, slots):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Index of the word data[start:stop] with hash h, or -1."""
    mask = len(slots) - 1
    at = np.int64(h) & mask
    while slots[at] >= 0:
        word = slots[at]
        low = offsets[word]
        if offsets[word + 1] - low == stop - start and equal(data, start, words, low, stop - start):
            return np.int64(word)
        at = (at + 1) & mask
    return np.int64(-1)
