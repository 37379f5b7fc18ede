"""Other normalisations than the declared one, so that what published pipelines call near duplicates can be said.

FineWeb's (datatrove's `simplify_text`, its words between blanks): `{punctuation: fineweb, diacritics: remove, numbers:
zero}`. SlimPajama's (`get_features` of its `to_hash.py`): `{punctuation: ascii, spaces: keep}`, `unit: character`,
`ngram: 13`, on text in NFC. Both are code point tables; a document with a capital whose lower case no table can say
goes through Python's `str.lower` before.
"""

import functools
import string
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
    IDEOGRAPH,
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
DIGIT, EXPANDS = 1, 2
"""Flags of `Folding.special`."""
_SPACE, _ZERO = U64(0x20), U64(0x30)

_FINEWEB_MARKS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~«´»–—’“”„…∶━►、。〈〉《》「」【】！％（），．１：；？～"
TAKEN_OUT = {
    "ascii": frozenset(string.punctuation),
    "fineweb": frozenset(_FINEWEB_MARKS) | {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))},
}
"""What a named list takes out of the text: SlimPajama's is Python's `string.punctuation`; datatrove's (`PUNCTUATION` of
its utils/text.py) has marks of Western and Chinese text, the full-width 1, and control characters, of which those that
are white space have become blanks before."""

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
    more: np.ndarray
    """uint32[n, 2]: what it is hashed as after `codes`, 0 where there is no more: a syllable's letters."""
    special: np.ndarray
    """uint8: DIGIT for a part of a number that becomes one 0, EXPANDS where `more` has something, else 0."""
    beyond: int
    """Class of the code points that are not among them; -1: by `classify`."""
    keeps_spaces: bool


@functools.cache
def folding(config: NormaliseConfig, every_letter_alone: bool) -> Folding:
    """The tables of a normalisation (two megabytes, made in half a second)."""
    listed = TAKEN_OUT.get(config.punctuation)
    near = word_classes(every_letter_alone)
    beyond, content = -1, IDEOGRAPH if every_letter_alone else LETTER
    if listed is not None:  # all that is neither taken out nor white space counts
        near, beyond = np.where(near == WHITE, WHITE, content), content
    classes = np.concatenate([near, [_class(near, code, beyond) for code in CODES[TABLE_SIZE:]]]).astype(np.uint8)
    codes, more, special = CODES.copy(), np.zeros((len(CODES), 2), np.uint32), np.zeros(len(CODES), np.uint8)
    if config.case == "lower":
        codes[:TABLE_SIZE] = lower_case()
    for at, code in enumerate(CODES.tolist()):
        c = chr(code)
        category = unicodedata.category(c)
        if _taken_out(c, category, config.punctuation) and not c.isspace():
            classes[at] = IGNORED
        if config.numbers == "zero" and category == "Nd":
            special[at] |= DIGIT
            classes[at] = classes[ord("0")]  # also of a script whose characters are words by themselves
        if config.diacritics == "remove" and not 0xD800 <= code < 0xE000:
            if category == "Mn":
                classes[at] = IGNORED
            base = [b for b in unicodedata.normalize("NFD", chr(codes[at])) if unicodedata.category(b) != "Mn"]
            if len(base) == 1 or (base and listed is not None):
                codes[at] = ord(base[0])
                more[at, : len(base) - 1] = [ord(b) for b in base[1:]]
                special[at] |= EXPANDS * (len(base) > 1)
    for table in (classes, codes, more, special):
        table.flags.writeable = False
    return Folding(classes, codes, more, special, beyond, config.spaces == "keep")


def _class(near: np.ndarray, code: int, beyond: int) -> int:
    return int(classify(near, code)) if beyond < 0 else beyond


def _taken_out(character: str, category: str, punctuation: str) -> bool:
    if punctuation == "join":
        return category[0] in "PS" or category in ("Cc", "Cf")
    return punctuation in TAKEN_OUT and character in TAKEN_OUT[punctuation]


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
    data: Any, offsets: Any, classes: Any, codes: Any, more: Any, special: Any, beyond: int, keeps_spaces: bool,
    hashes: Any, bounds: Any,
) -> None:  # fmt: skip
    n = 0
    for doc in range(offsets.shape[0] - 1):
        i, end, opened = U64(offsets[doc]), U64(offsets[doc + 1]), n
        token, state, in_number, space = FNV_BASIS, SEPARATOR, False, False
        while i < end:
            code, width = character(data, i)
            i += ONE * U64(width)
            at = _place(code)
            kind = classes[at] if at >= 0 else (classify(classes, code) if beyond < 0 else beyond)
            if kind == IGNORED:
                continue
            flags = special[at] if at >= 0 else 0
            digit = flags & DIGIT != 0
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
            if flags & EXPANDS:
                token = (token ^ U64(more[at, 0])) * FNV_PRIME
                if more[at, 1] != 0:
                    token = (token ^ U64(more[at, 1])) * FNV_PRIME
            if kind != MARK:
                state = kind
        if state != SEPARATOR:
            hashes[n] = murmur64(token)
            n += 1
        bounds[doc + 1] = n


_NOT_SIMPLE = "Σİ"


def _lowered(text: pa.Array) -> pa.Array:
    """Documents with a capital sigma (its lower case depends on its place in the word) or a dotted I (it has two code
    points) in lower case, as Python has it; the tables do the others."""
    odd = pc.fill_null(functools.reduce(pc.or_, [pc.match_substring(text, c) for c in _NOT_SIMPLE]), False)
    if not pc.any(odd).as_py():
        return text
    lower = pa.array([t.lower() for t in text.filter(odd).to_pylist()], text.type)
    return pc.replace_with_mask(text, odd, lower)


def tokenise_normalised(
    text: pa.Array | pa.ChunkedArray, unit: str, config: NormaliseConfig
) -> tuple[np.ndarray, np.ndarray]:
    """(token hashes uint64, offsets int64[n + 1]) of each text, as `raypt.dedup.tokenise.tokenise` gives them under the
    declared normalisation; with `spaces: keep` each run of white space between characters is a token too."""
    if config.unicode != "none":
        text = pc.utf8_normalize(text, form=config.unicode)
    if config.punctuation in TAKEN_OUT and config.case == "lower":
        text = _lowered(text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text)
    data, offsets = string_buffers(text)
    table = folding(config, unit == "character")
    hashes = np.empty(int(offsets[-1] - offsets[0]), np.uint64)
    bounds = np.zeros(len(offsets), np.int64)
    _tokenise(
        data, offsets, table.classes, table.codes, table.more, table.special, table.beyond, table.keeps_spaces,
        hashes, bounds,
    )  # fmt: skip
    return hashes[: bounds[-1]], bounds
