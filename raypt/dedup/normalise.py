"""Other normalisations than the declared one, so that what published pipelines call near duplicates can be said.

FineWeb's (datatrove's `simplify_text`): `{punctuation: join, diacritics: remove, numbers: zero}`. SlimPajama's:
`{unicode: NFC, punctuation: join, spaces: keep}` with 13 characters a shingle.
"""

import functools
import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt.dedup.config import NormaliseConfig
from raypt.kernels import kernel
from raypt.text.buffers import string_buffers
from raypt.text.hashing import FNV_BASIS, FNV_PRIME, U64, murmur64
from raypt.text.unicode import (
    LETTER,
    MARK,
    SEPARATOR,
    TABLE_SIZE,
    WHITE,
    classify,
    lower_case,
    word_classes,
)
from raypt.text.utf8 import ONE, character

IGNORED = 5
"""A class beside those of `raypt.text.unicode`: taken out of the text, as if it had not been there."""
_SPACE, _ZERO = U64(0x20), U64(0x30)


FAR = ((0x2F800, 0x2FA20), (0xE0000, 0xE0200))
"""Code points beyond TABLE_SIZE that a normalisation may change: compatibility ideographs; tags and selectors."""
CODES = np.concatenate([np.arange(TABLE_SIZE), *(np.arange(*far) for far in FAR)]).astype(np.uint32)
"""The code points with entries in the tables of a `Folding`, in their order."""
_FAR_A, _FAR_B = TABLE_SIZE, TABLE_SIZE + FAR[0][1] - FAR[0][0]
(_A, _A_END), (_B, _B_END) = FAR


@dataclass(frozen=True)
class Folding:
    """A normalisation as tables of an entry each of `CODES`; a code point that is not among them is itself."""

    classes: np.ndarray
    """uint8: a class of `raypt.text.unicode`, or IGNORED."""
    codes: np.ndarray
    """uint32: what a code point is hashed as."""
    digits: np.ndarray
    """bool: which are parts of a number that becomes one 0; none unless asked for."""
    keeps_spaces: bool


@functools.cache
def folding(config: NormaliseConfig, every_letter_alone: bool) -> Folding:
    """The tables of a normalisation (a megabyte, made in half a second)."""
    near = word_classes(every_letter_alone)
    classes = np.concatenate([near, [classify(near, code) for code in CODES[TABLE_SIZE:]]]).astype(np.uint8)
    codes, digits = CODES.copy(), np.zeros(len(CODES), bool)
    if config.case == "lower":
        codes[:TABLE_SIZE] = lower_case()
    for at, code in enumerate(CODES.tolist()):
        c = chr(code)
        category = unicodedata.category(c)
        if config.punctuation == "join" and (category[0] in "PS" or category in ("Cc", "Cf")) and not c.isspace():
            classes[at] = IGNORED
        if config.numbers == "zero" and category == "Nd":
            digits[at] = True
        if config.diacritics == "remove" and not 0xD800 <= code < 0xE000:
            if category == "Mn":
                classes[at] = IGNORED
            base = [b for b in unicodedata.normalize("NFD", chr(codes[at])) if unicodedata.category(b) != "Mn"]
            if len(base) == 1:
                codes[at] = ord(base[0])
    for table in (classes, codes, digits):
        table.flags.writeable = False
    return Folding(classes, codes, digits, config.spaces == "keep")


@kernel
def _place(code: Any) -> Any:
    """Where the tables have a code point; -1 where they do not."""
    at: Any = np.int64(code)  # an unsigned number less a signed one is a float
    if at >= _A and at < _A_END:
        at += _FAR_A - _A
    elif at >= _B and at < _B_END:
        at += _FAR_B - _B
    elif at >= TABLE_SIZE:
        at = -1
    return at


@kernel
def _tokenise(
    data: Any, offsets: Any, classes: Any, codes: Any, digits: Any, keeps_spaces: bool, hashes: Any, bounds: Any
) -> None:
    n = 0
    for doc in range(offsets.shape[0] - 1):
        i, end, opened = U64(offsets[doc]), U64(offsets[doc + 1]), n
        token, state, in_number, space = FNV_BASIS, SEPARATOR, False, False
        while i < end:
            code, width = character(data, i)
            i += ONE * U64(width)
            at = _place(code)
            kind = classes[at] if at >= 0 else classify(classes, code)
            if kind == IGNORED:
                continue
            digit = at >= 0 and digits[at]
            if digit and in_number:
                continue
            in_number = digit
            if state != SEPARATOR and kind != MARK and not (kind == LETTER and state == LETTER):
                hashes[n] = murmur64(token)
                n += 1
                token, state = FNV_BASIS, SEPARATOR
            if kind in (WHITE, SEPARATOR):
                space = True
                continue
            if kind == MARK and state == SEPARATOR:
                continue
            if space and keeps_spaces and n > opened:
                hashes[n] = murmur64((FNV_BASIS ^ _SPACE) * FNV_PRIME)
                n += 1
            space = False
            folded = _ZERO if digit else U64(codes[at] if at >= 0 else code)
            token = (token ^ folded) * FNV_PRIME
            if kind != MARK:
                state = kind
        if state != SEPARATOR:
            hashes[n] = murmur64(token)
            n += 1
        bounds[doc + 1] = n


def tokenise_normalised(
    text: pa.Array | pa.ChunkedArray, unit: str, config: NormaliseConfig
) -> tuple[np.ndarray, np.ndarray]:
    """(token hashes uint64, offsets int64[n + 1]) of each text, as `raypt.dedup.tokenise.tokenise` gives them under the
    declared normalisation; with `spaces: keep` each run of white space between characters is a token too."""
    if config.unicode != "none":
        text = pc.utf8_normalize(text, form=config.unicode)
    data, offsets = string_buffers(text)
    table = folding(config, unit == "character")
    hashes = np.empty(int(offsets[-1] - offsets[0]), np.uint64)
    bounds = np.zeros(len(offsets), np.int64)
    _tokenise(data, offsets, table.classes, table.codes, table.digits, table.keeps_spaces, hashes, bounds)
    return hashes[: bounds[-1]], bounds
