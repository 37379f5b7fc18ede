"""Near copies among the training texts: they must be on one side of the held-out split, or the measure is inflated.

A text's MinHash signature (Broder 1997) over 5-word shingles is cut into BANDS bands of ROWS values; texts that share a
band, and what they connect, are one group. It finds 99.9 % of the pairs of Jaccard similarity 0.8, 97 % of 0.7.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from raypt.kernels import kernel
from raypt.text.buffers import string_buffers
from raypt.text.hashing import GOLDEN, U64, hash_bytes, murmur64, power

NGRAM, BANDS, ROWS = 5, 20, 5


@kernel
def _band_hashes(data: Any, offsets: Any, recent: Any, least: Any, out: Any) -> None:
    """`recent` and `least`: for work, the words of an n-gram, and the hashes of all bands."""
    ngram, bands = recent.size, out.shape[1]
    rows, oldest = least.size // bands, power(GOLDEN, ngram)
    for doc in range(offsets.shape[0] - 1):
        for k in range(least.size):
            least[k] = U64(0xFFFFFFFFFFFFFFFF)
        rolling, words = U64(0), 0
        start = offsets[doc]
        for i in range(offsets[doc], offsets[doc + 1] + 1):
            if i < offsets[doc + 1] and data[i] != 0x20:
                continue
            if i > start:
                h = hash_bytes(data, start, i)
                rolling = rolling * GOLDEN + h
                if words >= ngram:
                    rolling -= recent[words % ngram] * oldest
                recent[words % ngram] = h
                words += 1
                if words >= ngram or i == offsets[doc + 1]:
                    a, b = murmur64(rolling), murmur64(rolling + GOLDEN) | U64(1)
                    for k in range(bands * rows):
                        least[k] = min(least[k], (a ^ (a >> U64(29))) * GOLDEN)
                        a += b
            start = i + 1
        for band in range(bands):
            h = murmur64(U64(band) + GOLDEN)
            for row in range(rows):
                h = murmur64(h ^ least[band * rows + row]) + GOLDEN
            out[doc, band] = h


def groups_of(lines: pa.Array) -> np.ndarray:
    """int64[n]: the position of the first text of each text's group; `lines` are normalised, words between spaces."""
    data, offsets = string_buffers(lines)
    bands = np.zeros((len(lines), BANDS), np.uint64)
    _band_hashes(data, offsets, np.empty(NGRAM, np.uint64), np.empty(BANDS * ROWS, np.uint64), bands)
    parent = np.arange(len(lines))
    for band in range(BANDS):
        _, first, inverse = np.unique(bands[:, band], return_index=True, return_inverse=True)
        _join(parent, first[inverse.reshape(-1)])
    for i in range(len(lines)):
        parent[i] = parent[parent[i]]  # a parent is never behind its child, so its own is final
    return parent


def joined(parent: np.ndarray, other: np.ndarray) -> np.ndarray:
    """int64[n]: what two groupings connect; a group, here as in them, is named by the position of its first."""
    both = parent.copy()
    _join(both, other)
    for i in range(len(both)):
        both[i] = both[both[i]]
    return both


@kernel
def _root(parent: Any, i: Any) -> Any:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@kernel
def _join(parent: Any, other: Any) -> None:
    """Union of each i with other[i]; the smaller root stays."""
    for i in range(parent.shape[0]):
        a, b = _root(parent, i), _root(parent, np.int64(other[i]))
        parent[max(a, b)] = min(a, b)
