"""Classes of Unicode characters as one lookup table for compiled kernels.

`flags(c)` of a code point is a bit set (the constants below), read from a two-stage table: `PAGES[c >> 8]` selects a
block of 256 entries of `BLOCKS`. The categories come from Python's `unicodedata`, so the reference implementations in
the tests can use `str.isalpha` and friends.
"""

import functools
import unicodedata

import numpy as np

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

# Scripts written without spaces between words (UAX #14 class SA, plus Han and Kana), as inclusive ranges.
UNSPACED_RANGES = (
    (0x0E00, 0x0E7F),  # Thai
    (0x0E80, 0x0EFF),  # Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x3005, 0x3007),  # Han iteration mark, closing mark, zero
    (0x3021, 0x3029),  # Hangzhou numerals
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),  # Katakana extensions
    (0x3400, 0x4DBF),  # Han extension A
    (0x4E00, 0x9FFF),  # Han
    (0xA9E0, 0xA9FF),  # Myanmar extended B
    (0xAA60, 0xAADF),  # Myanmar extended A, Tai Viet
    (0xF900, 0xFAFF),  # Han compatibility
    (0xFF66, 0xFF9D),  # half-width Katakana
    (0x1B000, 0x1B16F),  # Kana supplement
    (0x20000, 0x323AF),  # Han extensions B..H
)
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
# Non-ASCII punctuation that joins letters within a word.
JOINERS = "’·‧‐‑־ʼ＇•¶"


def _flags(c: int) -> int:
    ch = chr(c)
    category = unicodedata.category(ch)
    if category in ("Cn", "Cs", "Co"):
        return SPACE if ch.isspace() else 0
    flags = 0
    if ch.isspace():
        flags |= SPACE
    if ch in LINE_BREAKS:
        flags |= BREAK
    if ch.isalpha():
        flags |= ALPHA
    if category == "Nd":
        flags |= DIGIT
    if category in ("Lu", "Lt"):
        flags |= UPPER
    if category == "Ll":
        flags |= LOWER
    if category[0] == "M" or c == 0x200D:
        flags |= EXTEND
    if category[0] in "PS" or category == "Cc":
        flags |= SYMBOL
    if category[0] == "P":
        flags |= PUNCT
    if category[0] in "PS" and ch not in NOT_EDGE:
        flags |= EDGE
    if category[0] in "PS" and c >= 0x80 and ch not in JOINERS and ch not in HYPHENS:
        flags |= SPLIT
    if ch in TERMINALS:
        flags |= TERMINAL
    if ch in HYPHENS:
        flags |= HYPHEN
    if ch in QUOTES:
        flags |= QUOTE
    if (flags & ALPHA or category[0] in "LN") and any(a <= c <= b for a, b in UNSPACED_RANGES):
        flags |= UNSPACED
        if any(a <= c <= b for a, b in NO_STOPS_RANGES):
            flags |= NO_STOPS
    return flags


@functools.cache
def tables() -> tuple[np.ndarray, np.ndarray]:
    """`(PAGES uint8[0x1100], BLOCKS uint16[blocks, 256])`: flags of `c` are `BLOCKS[PAGES[c >> 8], c & 255]`."""
    pages = np.zeros(0x1100, np.uint8)
    blocks: dict[bytes, int] = {}
    for page in range(0x1100):
        # Planes 4-13 are unassigned and the last three hold no letters: they share the all-zero block.
        if 0x400 <= page < 0xE00 or page >= 0xE02:
            block = np.zeros(256, np.uint16)
        else:
            block = np.array([_flags(page << 8 | i) for i in range(256)], np.uint16)
        pages[page] = blocks.setdefault(block.tobytes(), len(blocks))
    assert len(blocks) <= 256
    return pages, np.frombuffer(b"".join(blocks), np.uint16).reshape(-1, 256)


def flags(c: str) -> int:
    """The class bits of one character, from the table (for tests and table building, not for hot loops)."""
    pages, blocks = tables()
    return int(blocks[pages[ord(c) >> 8], ord(c) & 255])
