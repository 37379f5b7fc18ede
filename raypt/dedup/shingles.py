"""Token hashes to shingles, to MinHash signatures and band hashes.

A shingle is `ngram` consecutive tokens. A document with fewer tokens is one shingle of all of them; a document without
tokens has no shingle, so it never shares a band.
"""

from typing import Any

import numpy as np

from raypt.dedup.tokenise import Tokens
from raypt.kernels import allocating_kernel, kernel
from raypt.text.hashing import GOLDEN, U32, U64, murmur32, murmur64, power

BAND_BASE = U64(0xA24BAED4963EE407)
SHIFT_32 = U64(32)
BLOCK = 512
"""Shingle hashes folded into a signature at a time: they stay in the first-level cache."""


@kernel
def _shingle(hashes: Any, offsets: Any, ngram: int, out: Any, bounds: Any) -> None:
    oldest = power(GOLDEN, ngram)
    n = 0
    for doc in range(offsets.shape[0] - 1):
        start, end = offsets[doc], offsets[doc + 1]
        rolling = U64(0)
        for t in range(start, end):
            rolling = rolling * GOLDEN + hashes[t]
            if t >= start + ngram:
                rolling -= hashes[t - ngram] * oldest
            if t >= start + ngram - 1:
                out[n] = murmur64(rolling)
                n += 1
        if start < end < start + ngram:
            out[n] = murmur64(rolling)
            n += 1
        bounds[doc + 1] = n


def shingle(tokens: Tokens, ngram: int) -> tuple[np.ndarray, np.ndarray]:
    """(uint64[shingles] hashes in order of the text, int64[n + 1] offsets) of n documents."""
    out = np.empty(len(tokens.hashes), np.uint64)
    bounds = np.zeros(len(tokens.offsets), np.int64)
    _shingle(tokens.hashes, tokens.offsets, ngram, out, bounds)
    return out[: bounds[-1]], bounds


@kernel
def _fold(signature: Any, a: Any, b: Any, hashes: Any, count: int) -> None:
    """signature[k] = min over the first `count` hashes h of a[k] * h + b[k] mod 2^32, and what it was before."""
    for k in range(signature.shape[0]):
        least, ak, bk = signature[k], a[k], b[k]
        for j in range(count):
            least = min(least, U32(ak * hashes[j] + bk))
        signature[k] = least


@allocating_kernel
def _sketch(shingles: Any, offsets: Any, a: Any, b: Any, signatures: Any) -> None:
    block = np.empty(BLOCK, np.uint32)
    for doc in range(offsets.shape[0] - 1):
        signature = signatures[doc]
        signature[:] = U32(0xFFFFFFFF)
        for start in range(offsets[doc], offsets[doc + 1], BLOCK):
            count = min(BLOCK, offsets[doc + 1] - start)
            for j in range(count):
                block[j] = murmur32(U32(shingles[start + j] >> SHIFT_32))
            _fold(signature, a, b, block, count)


def sketch(shingles: np.ndarray, offsets: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    """Signatures uint32[n, P]: those of datasketch.MinHash over the upper 32 bits of the shingle hashes."""
    a, b = np.ascontiguousarray(permutations[0]), np.ascontiguousarray(permutations[1])
    signatures = np.empty((len(offsets) - 1, len(a)), np.uint32)
    _sketch(shingles, offsets, a, b, signatures)
    return signatures


@kernel
def _bands(signatures: Any, rows: int, out: Any) -> None:
    for doc in range(signatures.shape[0]):
        for band in range(out.shape[1]):
            h = murmur64(U64(band + 1) * BAND_BASE)
            for row in range(band * rows, (band + 1) * rows):
                h = murmur64(h ^ U64(signatures[doc, row])) + BAND_BASE
            out[doc, band] = murmur64(h)


def band_hashes(signatures: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """uint64[n, bands]: a hash of each band's number and its `rows` signature values."""
    assert bands * rows <= signatures.shape[1]
    out = np.empty((len(signatures), bands), np.uint64)
    _bands(signatures, rows, out)
    return out


def sign(
    tokens: Tokens, *, ngram: int, permutations: np.ndarray, bands: int, rows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signatures uint32[n, P], band hashes uint64[n, bands] and token counts int64[n] of the tokens of n documents.

    `permutations` is uint32[2, P] as `raypt.dedup.minhash.permutations` makes it, P >= bands * rows. Where the token
    count is 0, signature and bands mean nothing.
    """
    signatures = sketch(*shingle(tokens, ngram), permutations)
    return signatures, band_hashes(signatures, bands, rows), tokens.counts
