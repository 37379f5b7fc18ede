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
    mark("\u200d", EXTEND)
    mark(NOT_EDGE, EDGE, on=False)
    mark(JOINERS + HYPHENS, SPLIT, on=False)
    mark(TERMINALS, TERMINAL)
    mark(HYPHENS, HYPHEN)
    mark(QUOTES, QUOTE)
    return bits


@functools.cache
def tables() -> tuple[np.ndarray, np.ndarray]:
    """`(PAGES uint8[0x1100], BLOCKS uint16[blocks, 256])`: flags of `c` are `BLOCKS[PAGES[c >> 8], c & 255]`."""
    bits = np.zeros(0x110000, np.uint16)
    # The rest is unassigned or for private use, without any class.
    for first, last in ((0, 0x32400), (0xE0000, 0xE0200)):
        bits[first:last] = _class_bits(first, last)
    pages = np.zeros(0x1100, np.uint8)
    blocks: dict[bytes, int] = {}
    for page, block in enumerate(bits.reshape(-1, 256)):
        pages[page] = blocks.setdefault(block.tobytes(), len(blocks))
    assert len(blocks) <= 256
    return pages, np.frombuffer(b"".join(blocks), np.uint16).reshape(-1, 256)


def flags(c: str) -> int:
    """The class bits of one character, from the table (for tests and table building, not for hot loops)."""
    pages, blocks = tables()
    return int(blocks[pages[ord(c) >> 8], ord(c) & 255])
