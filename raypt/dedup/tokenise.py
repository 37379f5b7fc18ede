"""Text to token hashes, straight from the Arrow UTF-8 buffers: what shingles, spans and overlaps are made of.

The declared normalisation: simple lower case; a token is a maximal run of letters, digits, marks and `_`, or one
character of a script written without spaces; everything else only separates. With unit "character" every letter is a
token of its own.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raypt.dedup.config import FuzzyConfig, NormaliseConfig
from raypt.dedup.normalise import tokenise_normalised
from raypt.kernels import kernel
from raypt.text.buffers import string_buffers
from raypt.text.hashing import FNV_BASIS, FNV_PRIME, U32, U64, murmur64
from raypt.text.unicode import IDEOGRAPH, LETTER, MARK, SEPARATOR, classify, lower_case, lower_of, word_classes
from raypt.text.utf8 import ONE, decode

ASCII_SEPARATOR, NOT_ASCII_LETTER = 1, 0


@dataclass(frozen=True)
class Tokens:
    """The tokens of n documents: those of document d are [offsets[d], offsets[d + 1])."""

    hashes: np.ndarray
    """uint64[tokens]"""
    stops: np.ndarray
    """int64[tokens]: the byte of its document at which the token has ended, if asked for, else empty."""
    offsets: np.ndarray
    """int64[n + 1]"""

    @property
    def counts(self) -> np.ndarray:
        return np.diff(self.offsets)


@functools.cache
def _ascii_letters(every_letter_alone: bool) -> np.ndarray:
    """uint8[256]: the lower case of an ASCII letter or digit, ASCII_SEPARATOR, or NOT_ASCII_LETTER: look further."""
    classes, table = word_classes(every_letter_alone), np.zeros(256, np.uint8)
    table[:128] = np.where(classes[:128] == LETTER, lower_case()[:128], ASCII_SEPARATOR)
    table[:128][classes[:128] == IDEOGRAPH] = NOT_ASCII_LETTER
    return table


# One flat loop on purpose: a helper that takes the arrays costs more in reference counts than the work it does.
@kernel
def _tokenise(
    data: Any, offsets: Any, ascii: Any, classes: Any, lower: Any, hashes: Any, stops: Any, bounds: Any
) -> None:
    keep_stops = stops.shape[0] > 0
    n = 0
    for doc in range(offsets.shape[0] - 1):
        start, end = U64(offsets[doc]), U64(offsets[doc + 1])
        i, token, state = start, FNV_BASIS, SEPARATOR
        while i < end:
            letter = ascii[data[i]]
            kind, code, width = LETTER, U32(letter), ONE
            if letter == ASCII_SEPARATOR:
                kind = SEPARATOR
            elif letter == NOT_ASCII_LETTER:
                code = U32(data[i])
                if code >= 0x80:
                    code, wide = decode(data, i)
                    width = U64(wide)
                kind = classify(classes, code)
                code = U32(lower_of(lower, code))
            if state != SEPARATOR and kind != MARK and not (kind == LETTER and state == LETTER):
                hashes[n] = murmur64(token)
                if keep_stops:
                    stops[n] = i - start
                n += 1
                token, state = FNV_BASIS, SEPARATOR
            if kind in (LETTER, IDEOGRAPH):
                token, state = (token ^ U64(code)) * FNV_PRIME, kind
            elif kind == MARK and state != SEPARATOR:
                token = (token ^ U64(code)) * FNV_PRIME
            i += width
        if state != SEPARATOR:
            hashes[n] = murmur64(token)
            if keep_stops:
                stops[n] = i - start
            n += 1
        bounds[doc + 1] = n


def fuzzy_tokens(text: pa.Array | pa.ChunkedArray, fuzzy: FuzzyConfig) -> Tokens:
    """The tokens of which near duplicates are made: those of `tokenise`, unless another normalisation is asked for."""
    if fuzzy.normalise == NormaliseConfig():
        return tokenise(text, fuzzy.unit)
    hashes, offsets = tokenise_normalised(text, fuzzy.unit, fuzzy.normalise)
    return Tokens(hashes, np.empty(0, np.int64), offsets)


def tokenise(text: pa.Array | pa.ChunkedArray, unit: str = "word", *, stops: bool = False) -> Tokens:
    """The token hashes of each text (memory: 8 bytes a token, twice that with `stops`)."""
    data, offsets = string_buffers(text)
    alone, size = unit == "character", int(offsets[-1] - offsets[0])
    # A token takes a byte at least, and a separator follows it unless it is of an unspaced script (three bytes).
    most = size if alone else size // 2 + len(offsets)
    hashes, ends = np.empty(most, np.uint64), np.empty(most if stops else 0, np.int64)
    bounds = np.zeros(len(offsets), np.int64)
    _tokenise(data, offsets, _ascii_letters(alone), word_classes(alone), lower_case(), hashes, ends, bounds)
    return Tokens(hashes[: bounds[-1]], ends[: bounds[-1]] if stops else ends, bounds)
