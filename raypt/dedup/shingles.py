"""Text to tokens to shingles to MinHash signatures, in one pass over the Arrow UTF-8 buffers.

The declared normalisation: simple lower case; a token is a maximal run of letters, digits, marks and `_`, or one
character of a script written without spaces; everything else only separates. A shingle is `ngram` consecutive tokens.
A document with fewer tokens is one shingle of all of them; a document without tokens has no shingle, so it never
shares a band.

The kernel streams: a document of any length takes constant memory.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from raypt.dedup.kernels import BLOCK, U32, U64, decode, fmix32, fold, kernel, mix64
from raypt.dedup.unicode import EXTEND, IDEOGRAPH, LETTER, SEPARATOR, character_classes, classify, lower_case

TOKEN_SEED = U64(0xCBF29CE484222325)
TOKEN_PRIME = U64(0x100000001B3)
SHINGLE_BASE = U64(0x9E3779B97F4A7C15)
BAND_BASE = U64(0xA24BAED4963EE407)
SHIFT_32 = U64(32)


def text_buffers(text: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """(bytes uint8[total], offsets int64[n + 1]) of a string array without nulls; views where Arrow allows."""
    array = text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text
    assert not array.null_count, "text has nulls"
    array = array.cast(pa.large_string())
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return (np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)), ends


@kernel
def _sign(
    data: Any,
    offsets: Any,
    classes: Any,
    lower: Any,
    ngram: int,
    a: Any,
    b: Any,
    rows: int,
    sigs: Any,
    bands: Any,
    tokens: Any,
) -> None:
    """See `sign`; fills signatures uint32[n, permutations], bands uint64[n, bands], tokens int64[n]."""
    base_n = U64(1)
    for _ in range(ngram):
        base_n *= SHINGLE_BASE
    ring = np.empty(ngram, np.uint64)
    block = np.empty(BLOCK, np.uint32)
    for doc in range(offsets.shape[0] - 1):
        signature = sigs[doc]
        signature[:] = U32(0xFFFFFFFF)
        ring[:] = U64(0)
        rolling, token, state, at = U64(0), TOKEN_SEED, SEPARATOR, 0
        count, filled = 0, 0
        i, end = offsets[doc], offsets[doc + 1]
        while True:
            last = i >= end
            kind, code = SEPARATOR, U32(0)
            if not last:
                code = U32(data[i])
                if code < 0x80:
                    i += 1
                else:
                    code, width = decode(data, i)
                    i += width
                kind = classify(classes, code)
            if state != SEPARATOR and kind != EXTEND and not (kind == LETTER and state == LETTER):
                word = mix64(token)
                rolling = rolling * SHINGLE_BASE + word - ring[at] * base_n
                ring[at] = word
                at = at + 1 if at + 1 < ngram else 0
                count += 1
                state = SEPARATOR
                if count >= ngram:
                    block[filled] = fmix32(U32(mix64(rolling) >> SHIFT_32))
                    filled += 1
                    if filled == BLOCK:
                        fold(signature, a, b, block, filled)
                        filled = 0
            if last:
                break
            if kind in (LETTER, IDEOGRAPH):
                if state == SEPARATOR:
                    token = TOKEN_SEED
                    state = kind
                token = (token ^ U64(lower[code] if code < lower.shape[0] else code)) * TOKEN_PRIME
            elif kind == EXTEND and state != SEPARATOR:
                token = (token ^ U64(code)) * TOKEN_PRIME
        if 0 < count < ngram:
            block[0] = fmix32(U32(mix64(rolling) >> SHIFT_32))
            filled = 1
        fold(signature, a, b, block, filled)
        tokens[doc] = count
        for band in range(bands.shape[1]):
            h = mix64(U64(band + 1) * BAND_BASE)
            for row in range(band * rows, (band + 1) * rows):
                h = mix64(h ^ U64(signature[row])) + BAND_BASE
            bands[doc, band] = mix64(h)


def sign(
    text: pa.Array | pa.ChunkedArray, *, unit: str, ngram: int, permutations: np.ndarray, bands: int, rows: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signatures uint32[n, P], band hashes uint64[n, bands] and token counts int64[n] of n documents.

    `permutations` is uint32[2, P] as `raypt.dedup.minhash.permutations` makes it, P >= bands * rows. Signatures equal
    those of datasketch.MinHash over the same 32-bit shingle hashes. `unit` "word" or "character": with "character"
    every letter is a token of its own. Where the token count is 0 signature and bands mean nothing.
    """
    assert bands * rows <= permutations.shape[1]
    data, offsets = text_buffers(text)
    n = len(offsets) - 1
    signatures = np.empty((n, permutations.shape[1]), np.uint32)
    band_hashes = np.empty((n, bands), np.uint64)
    tokens = np.empty(n, np.int64)
    a, b = np.ascontiguousarray(permutations[0]), np.ascontiguousarray(permutations[1])
    classes = character_classes(unit == "character")
    _sign(data, offsets, classes, lower_case(), ngram, a, b, rows, signatures, band_hashes, tokens)
    return signatures, band_hashes, tokens
