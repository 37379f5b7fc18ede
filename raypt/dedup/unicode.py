"""Unicode tables for the tokenising kernels: what a character is to a shingle, and its lower case."""

import functools
import unicodedata
from typing import Any

import numpy as np

from raypt.kernels import kernel

SEPARATOR, LETTER, IDEOGRAPH, EXTEND, SPACE = range(5)
"""Classes of `character_classes`. LETTER builds words; an IDEOGRAPH is a word by itself; EXTEND (a combining mark)
belongs to the character before it; SPACE is white space; SEPARATOR is everything else."""

TABLE_SIZE = 0x20000
"""Code points with table entries. From here to `LAST_IDEOGRAPH` all are ideographs; beyond, all are separators."""
LAST_IDEOGRAPH = 0x3FFFF

UNSPACED_RANGES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FFF),  # CJK and Kangxi radicals
    (0x3005, 0x3007),
    (0x3021, 0x302F),
    (0x3031, 0x30FF),  # kana
    (0x3100, 0x312F),  # bopomofo
    (0x3190, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA980, 0xA9FF),  # Javanese, Myanmar
    (0xAA60, 0xAA7F),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # half-width katakana
    (0x1AFF0, 0x1B2FF),  # kana, hentaigana, Nushu
)
"""Scripts written without spaces between words: each character counts as a word (Hangul has spaces, so it does not)."""

UNICODE_VERSION = unicodedata.unidata_version
"""Part of every parameter fingerprint: another Unicode version may classify or lower-case a character differently."""


@functools.cache
def character_classes(every_letter_alone: bool = False) -> np.ndarray:
    """uint8[TABLE_SIZE]: the class of each code point; letters and numbers (Unicode L, N) and `_` build words.

    With `every_letter_alone` every LETTER is an IDEOGRAPH: tokens are then single characters.
    """
    classes = np.zeros(TABLE_SIZE, np.uint8)
    for code in range(TABLE_SIZE):
        category = unicodedata.category(chr(code))
        if category[0] == "M":
            classes[code] = EXTEND
        elif category[0] in "LN":
            classes[code] = LETTER
        elif chr(code).isspace():
            classes[code] = SPACE
    classes[ord("_")] = LETTER
    for first, last in UNSPACED_RANGES:
        block = classes[first : last + 1]
        block[block == LETTER] = IDEOGRAPH
    if every_letter_alone:
        classes[classes == LETTER] = IDEOGRAPH
    return classes


@kernel
def classify(classes: Any, code: Any) -> int:
    """The class of any code point, by the table `character_classes` and the ranges beyond it."""
    if code < TABLE_SIZE:
        return int(classes[code])
    return IDEOGRAPH if code <= LAST_IDEOGRAPH else SEPARATOR


@functools.cache
def lower_case() -> np.ndarray:
    """uint32[TABLE_SIZE]: the lower case of each code point, itself if the lower case is several."""
    lower = np.arange(TABLE_SIZE, dtype=np.uint32)
    for code in range(TABLE_SIZE):
        if 0xD800 <= code < 0xE000:
            continue
        mapped = chr(code).lower()
        if len(mapped) == 1:
            lower[code] = ord(mapped)
    return lower


@kernel
def lower_of(lower: Any, code: Any) -> Any:
    """The lower case of any code point as uint64, by the table `lower_case`."""
    return np.uint64(lower[code]) if code < TABLE_SIZE else np.uint64(code)
