"""The one table of Unicode characters: what every compiled kernel knows of a code point, in two layouts.

`tables()`: `flags(c)` of a code point is a bit set (the constants below), read from a two-stage table: `PAGES[c >> 8]`
selects a block of 256 entries of `BLOCKS`. `word_classes()`: one of five classes a code point, for kernels that only
cut text into words, and `lower_case()` beside it. The categories come from Python's `unicodedata`, so the reference
implementations in the tests can use `str.isalpha` and friends; which scripts have no spaces, `UNSPACED_RANGES` says.
"""

import functools
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np

from raypt.code_hash import uses_hash
from raypt.kept import kept_array
from raypt.kernels import kernel

UNICODE_VERSION = unicodedata.unidata_version
"""Part of every fingerprint of what is computed from these tables: another version may class a character otherwise."""

SPACE = 1 << 0  # str.isspace
BREAK = 1 << 1  # ends a line for str.splitlines
ALPHA = 1 << 2  # str.isalpha
DIGIT = 1 << 3  # category Nd
UPPER = 1 << 4  # category Lu or Lt
LOWER = 1 << 5  # category Ll
UNSPACED = 1 << 6  # letter of a script written without spaces: a character counts as a word
EXTEND = 1 << 7  # combining mark, joiner or variation selector: belongs to the character before it
SYMBOL = 1 << 8  # punctuation, symbol or control: a token of only these is not a word
PUNCT = 1 << 9  # punctuation (P*)
EDGE = 1 << 10  # split off at the start and the end of a chunk of text between spaces
SPLIT = 1 << 11  # split off anywhere inside a chunk
TERMINAL = 1 << 12  # ends a sentence
NO_STOPS = 1 << 13  # letter of a script without sentence-final punctuation (Thai, Lao): a space ends a clause
HYPHEN = 1 << 14  # splits a chunk between letters
QUOTE = 1 << 15  # closing quotation mark or ASCII quote: accepted by C4 as the end of a line

LINE_BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"

UNSPACED_RANGES = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x3005, 0x3007),  # Han iteration mark, closing mark, zero
    (0x3021, 0x303C),  # Hangzhou numerals, kana repeat marks
    (0x3040, 0x312F),  # Hiragana, Katakana, Bopomofo
    (0x3192, 0x3195),  # Kanbun numerals
    (0x31A0, 0x31BF),  # Bopomofo extended
    (0x31F0, 0x31FF),  # Katakana extensions
    (0x3400, 0x4DBF),  # Han extension A
    (0x4E00, 0x9FFF),  # Han
    (0xA980, 0xA9FF),  # Javanese, Myanmar extended B
    (0xAA60, 0xAADF),  # Myanmar extended A, Tai Viet
    (0xF900, 0xFAFF),  # Han compatibility
    (0xFF66, 0xFF9D),  # half-width Katakana
    (0x16FE1, 0x16FE1),  # Nushu iteration mark
    (0x16FE3, 0x16FE3),  # Old Chinese iteration mark
    (0x1AFF0, 0x1B2FF),  # Kana extended and supplement, Nushu
)
"""Letters and numbers in these ranges are of scripts written without spaces between words, so that a character counts
as a word (Hangul has spaces). By Unicode's Script property: those whose letters have Line_Break SA (UAX 14: Thai, Lao,
Myanmar, Khmer, the Tai scripts), Han, the kana, Bopomofo and Nushu (ID), Javanese (AK since Unicode 15.1), and the
marks common to them. docs/unicode.md has each decision; a test compares with another implementation of Unicode."""
FIRST_IDEOGRAPH, LAST_IDEOGRAPH = 0x20000, 0x3FFFF
"""Planes 2 and 3 are unspaced whole: Unicode keeps them for ideographs (LineBreak.txt: ID where unassigned), and a
newer Unicode than Python's has put more there."""
NO_STOPS_RANGES = ((0x0E00, 0x0EFF),)

# Unicode's Sentence_Terminal property (PropList.txt), the characters in living use and the historical scripts with text
# on the web; full-width and CJK full stops among them.
TERMINALS = (
    "!.?։؝؞؟۔܀܁܂߹࠷࠹࠽࠾।॥၊။።፧፨᙮᜵᜶᠃᠉᥄᥅᪨᪩᪪᪫᭚᭛᭞᭟᰻᰼᱾᱿‼‽⁇⁈⁉⸮⸼。꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫﹒﹖﹗！．？｡"
    "។៕៖"  # Khmer khan: sentence-final in use
)
HYPHENS = "-–—~‐‑"
QUOTES = "\"'”’»›」』】〉》）"
# Not split off though they are punctuation: flags, paths, handles, arithmetic, the anchors of documentation pages.
NOT_EDGE = "-/@|^+\\~.‐‑¶"
# Half-width (semi-)voiced sound marks: letters by category, but Word_Break Extend (UAX 29), as ガ is one character.
SOUND_MARKS = "\uff9e\uff9f"
JOINED = "\u200d" + SOUND_MARKS
# Non-ASCII punctuation that joins letters within a word.
JOINERS = "’·‧‐‑־ʼ＇•¶"


_BY_CATEGORY = {
    **dict.fromkeys(("Lu", "Lt"), ALPHA | UPPER),
    "Ll": ALPHA | LOWER,
    **dict.fromkeys(("Lm", "Lo"), ALPHA),
    "Nd": DIGIT,
    **dict.fromkeys(("Mn", "Mc", "Me"), EXTEND),
    "Cc": SYMBOL,
    **dict.fromkeys(("Sm", "Sc", "Sk", "So"), SYMBOL | EDGE),
    **dict.fromkeys(("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po"), SYMBOL | PUNCT | EDGE),
}


def _class_bits(first: int, last: int) -> np.ndarray:
    """uint16 class bits of the code points [first, last)."""
    categories = [unicodedata.category(chr(c)) for c in range(first, last)]
    bits = np.array([_BY_CATEGORY.get(category, 0) for category in categories], np.uint16)
    codes = np.arange(first, last)
    letter = np.array([category[0] in "LN" for category in categories])
    for ranges, flag in ((UNSPACED_RANGES, UNSPACED), (NO_STOPS_RANGES, NO_STOPS)):
        for a, b in ranges:
            bits[letter & (codes >= a) & (codes <= b)] |= flag
    bits[(bits & EDGE != 0) & (codes >= 0x80)] |= SPLIT

    def mark(characters: str, flag: int, *, on: bool = True) -> None:
        at = np.array([ord(c) - first for c in characters if first <= ord(c) < last], np.int64)
        bits[at] = bits[at] | flag if on else bits[at] & (0xFFFF ^ flag)

    spaces = [c for c, category in zip(codes.tolist(), categories, strict=True) if category[0] in "ZC"]
    mark("".join(chr(c) for c in spaces if chr(c).isspace()), SPACE)
    mark(LINE_BREAKS, BREAK)
    mark(JOINED, EXTEND)
    mark(NOT_EDGE, EDGE, on=False)
    mark(JOINERS + HYPHENS, SPLIT, on=False)
    mark(TERMINALS, TERMINAL)
    mark(HYPHENS, HYPHEN)
    mark(QUOTES, QUOTE)
    return bits


def _all_bits() -> np.ndarray:
    """uint16[0x110000] of every code point."""
    bits = np.zeros(0x110000, np.uint16)
    # The rest is unassigned or for private use, without any class.
    for first, last in ((0, 0x32400), (0xE0000, 0xE0200)):
        bits[first:last] = _class_bits(first, last)
    bits[FIRST_IDEOGRAPH : LAST_IDEOGRAPH + 1] |= UNSPACED
    return bits


def _kept(make: Callable[[], np.ndarray]) -> np.ndarray:
    """What a function of this module makes of `unicodedata` alone."""
    name = make.__name__
    return kept_array(f"unicode-{UNICODE_VERSION}{name}-{uses_hash(__name__, name)}", make)


@functools.cache
def tables() -> tuple[np.ndarray, np.ndarray]:
    """`(PAGES uint8[0x1100], BLOCKS uint16[blocks, 256])`: flags of `c` are `BLOCKS[PAGES[c >> 8], c & 255]`."""
    pages = np.zeros(0x1100, np.uint8)
    blocks: dict[bytes, int] = {}
    for page, block in enumerate(_kept(_all_bits).reshape(-1, 256)):
        pages[page] = blocks.setdefault(block.tobytes(), len(blocks))
    assert len(blocks) <= 256
    return pages, np.frombuffer(b"".join(blocks), np.uint16).reshape(-1, 256)


def flags(c: str) -> int:
    """The class bits of one character, from the table (for tests and table building, not for hot loops)."""
    pages, blocks = tables()
    return int(blocks[pages[ord(c) >> 8], ord(c) & 255])


SPACE_RE2 = r"\t-\r\x1c- \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
"""White space as `str.isspace` has it, inside the brackets of a class of RE2 (Arrow's expressions), whose `\\s` is
ASCII's."""

SEPARATOR, LETTER, IDEOGRAPH, MARK, WHITE = range(5)
"""Classes of `word_classes`. LETTER builds words; an IDEOGRAPH is a word by itself; a MARK belongs to the character
before it; WHITE is white space; SEPARATOR is everything else."""

TABLE_SIZE = 0x20000
"""Code points with entries in the tables below. From here to `LAST_IDEOGRAPH` all are ideographs; beyond, variation
selectors are marks and the rest separators."""
FIRST_SELECTOR, LAST_SELECTOR = 0xE0100, 0xE01EF
"""Of the variation selectors that choose a form of an ideograph."""


@functools.cache
def word_classes(every_letter_alone: bool = False) -> np.ndarray:
    """uint8[TABLE_SIZE]: the class of each code point; letters and numbers (Unicode L, N) and `_` build words.

    With `every_letter_alone` every LETTER is an IDEOGRAPH: tokens are then single characters.
    """
    classes = _kept(_word_classes)
    if every_letter_alone:
        classes = np.where(classes == LETTER, np.uint8(IDEOGRAPH), classes)
        classes.flags.writeable = False
    return classes


def _word_classes() -> np.ndarray:
    classes = np.zeros(TABLE_SIZE, np.uint8)
    for code in range(TABLE_SIZE):
        category = unicodedata.category(chr(code))
        if category[0] == "M":
            classes[code] = MARK
        elif category[0] in "LN":
            classes[code] = LETTER
        elif chr(code).isspace():
            classes[code] = WHITE
    classes[ord("_")] = LETTER
    for first, last in UNSPACED_RANGES:
        block = classes[first : last + 1]
        block[block == LETTER] = IDEOGRAPH
    classes[[ord(c) for c in SOUND_MARKS]] = MARK
    return classes


@kernel
def classify(classes: Any, code: Any) -> int:
    """The class of any code point, by the table `word_classes` and the ranges beyond it."""
    if code < TABLE_SIZE:
        return int(classes[code])
    if code <= LAST_IDEOGRAPH:
        return IDEOGRAPH
    return MARK if FIRST_SELECTOR <= code <= LAST_SELECTOR else SEPARATOR


@functools.cache
def lower_case() -> np.ndarray:
    """uint32[TABLE_SIZE]: the lower case of each code point, itself if the lower case is several."""
    return _kept(_lower_case)


def _lower_case() -> np.ndarray:
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
