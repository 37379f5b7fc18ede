"""The special characters of BigScience's filters (bigscience-workshop/data-preparation, preprocessing/training/
01b_oscar_cleaning_and_filtering, parameters_filtering.py; data-juicer has the same), as a table for kernels.

ASCII punctuation, digits and white space; emojis (Unicode 17's Emoji property, without digits, `#`, `*` and the letters
of flags: the single characters of the package `emoji`, 2.16); and a list of signs, in which some letters stand, too.
"""

import functools
import string
from typing import Any

import numpy as np

from raypt.kernels import kernel
from raypt.text.unicode import LAST_IDEOGRAPH, TABLE_SIZE, UNSPACED_RANGES

WHITE, SPECIAL_CHARACTER, SKIPPED, UNSPACED = 1, 2, 4, 8
"""Bits of a character: white space; a special one; a control character, which counts for nothing; a letter or mark of a
script without spaces."""

SIGNS = (
    "¡¢£¤¥¦§¨©ª«\u00ad®¯°±²³´·¸¹º»¼½¾¿×÷øıɪʺʻʼ\u02c8\u02ccː˘˚˜πГ،"
    "\u0647٪\u066c۩\u093e\u0940\u0947\u094dॽ\u09be๑\u200b‐‑–—―‖‘’"
    "‚“”„‟†•․…‰′″‹›‿⁃⁄₨₪€℃™←↑→↓⇓∆∈−√∞∟∼≈≖≤≥⊕⋅═■▬▲▴▷►▻▼◆●◦★☆☛☻♡♥♫✓"
    "✦✱❖➤➩\u2800、。《》「」【】゜シッツン・ー一上士﴾﴿\ufeff！（），．１：；？＾～\ufffc\ufffd"
)
"""`other_special_characters` by code point, without its white space and control characters, which are no characters of
a document."""

_EMOJIS = """
    a9 ae 203c 2049 2122 2139 2194-2199 21a9-21aa 231a-231b 2328 23cf 23e9-23f3 23f8-23fa 24c2 25aa-25ab 25b6 25c0
    25fb-25fe 2600-2604 260e 2611 2614-2615 2618 261d 2620 2622-2623 2626 262a 262e-262f 2638-263a 2640 2642
    2648-2653 265f-2660 2663 2665-2666 2668 267b 267e-267f 2692-2697 2699 269b-269c 26a0-26a1 26a7 26aa-26ab
    26b0-26b1 26bd-26be 26c4-26c5 26c8 26ce-26cf 26d1 26d3-26d4 26e9-26ea 26f0-26f5 26f7-26fa 26fd 2702 2705
    2708-270d 270f 2712 2714 2716 271d 2721 2728 2733-2734 2744 2747 274c 274e 2753-2755 2757 2763-2764 2795-2797
    27a1 27b0 27bf 2934-2935 2b05-2b07 2b1b-2b1c 2b50 2b55 3030 303d 3297 3299 1f004 1f0cf 1f170-1f171 1f17e-1f17f
    1f18e 1f191-1f19a 1f201-1f202 1f21a 1f22f 1f232-1f23a 1f250-1f251 1f300-1f321 1f324-1f393 1f396-1f397
    1f399-1f39b 1f39e-1f3f0 1f3f3-1f3f5 1f3f7-1f4fd 1f4ff-1f53d 1f549-1f54e 1f550-1f567 1f56f-1f570 1f573-1f57a
    1f587 1f58a-1f58d 1f590 1f595-1f596 1f5a4-1f5a5 1f5a8 1f5b1-1f5b2 1f5bc 1f5c2-1f5c4 1f5d1-1f5d3 1f5dc-1f5de
    1f5e1 1f5e3 1f5e8 1f5ef 1f5f3 1f5fa-1f64f 1f680-1f6c5 1f6cb-1f6d2 1f6d5-1f6d9 1f6dc-1f6e5 1f6e9 1f6eb-1f6ec
    1f6f0 1f6f3-1f6fc 1f7e0-1f7eb 1f7f0 1f90c-1f93a 1f93c-1f945 1f947-1f9ff 1fa70-1fa7c 1fa80-1fac6 1fac8
    1facc-1fadd 1fadf-1faeb 1faef-1fafa
"""


def special_characters() -> frozenset[str]:
    """All of them but white space."""
    spans = [span.split("-") for span in _EMOJIS.split()]
    emojis = (chr(c) for span in spans for c in range(int(span[0], 16), int(span[-1], 16) + 1))
    return frozenset(string.punctuation + string.digits + SIGNS).union(emojis)


@functools.cache
def character_kinds() -> np.ndarray:
    """uint8[TABLE_SIZE]: the bits of each code point; beyond, see `kind_of`."""
    kinds = np.zeros(TABLE_SIZE, np.uint8)
    for first, last in UNSPACED_RANGES:
        kinds[first : last + 1] |= UNSPACED
    for c in special_characters():
        kinds[ord(c)] |= SPECIAL_CHARACTER
    kinds[[*range(0x20), *range(0x7F, 0xA0)]] = SKIPPED
    white = [c for c in range(TABLE_SIZE) if chr(c).isspace() and kinds[c] != SKIPPED] + [ord("\ufffc")]
    kinds[white + list(map(ord, string.whitespace))] = WHITE | SPECIAL_CHARACTER
    kinds.flags.writeable = False
    return kinds


@kernel
def kind_of(kinds: Any, code: Any) -> int:
    """The bits of any code point."""
    if code < TABLE_SIZE:
        return int(kinds[code])
    return UNSPACED if code <= LAST_IDEOGRAPH else 0
