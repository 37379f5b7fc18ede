"""Text into the words of byte-level BPE, on UTF-8 bytes: hand-written forms of three regular expressions.

Each function takes the document's bytes and says where the word that begins at `at` ends.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from raypt.kernels import kernel
from raypt.text.utf8 import character
from raypt.tokens.tokenizer.byte_level import LETTER, LOWER, NUMBER, SPACE, UPPER

U8: TypeAlias = npt.NDArray[np.uint8]


@kernel
def _run(data: U8, at: int, end: int, classes: U8, mask: int, wanted: int, most: int) -> int:
    """End of the run of at most `most` characters whose class masked by `mask` is `wanted`."""
    n = 0
    while at < end and n < most:
        c, size = character(data, at)
        if classes[c] & mask != wanted:
            break
        at += size
        n += 1
    return at


@kernel
def _contraction(data: U8, at: int, end: int, fold: bool) -> int:
    """End of 's 't 'm 'd 're 've 'll at `at` (which holds an apostrophe), or `at`. `fold`: in any case."""
    if at + 1 >= end:
        return at
    a = data[at + 1]
    if fold and a == 0xC5 and at + 2 < end and data[at + 2] == 0xBF:
        return at + 3  # ſ, the long s, is an s in another case
    b = data[at + 2] if at + 2 < end else np.uint8(0)
    if fold:
        a = a | np.uint8(0x20) if 0x41 <= a <= 0x5A else a
        b = b | np.uint8(0x20) if 0x41 <= b <= 0x5A else b
    if a == 0x73 or a == 0x74 or a == 0x6D or a == 0x64:
        return at + 2
    if (a == 0x72 and b == 0x65) or (a == 0x76 and b == 0x65) or (a == 0x6C and b == 0x6C):
        return at + 3
    return at


@kernel
def _spaces(data: U8, at: int, end: int, classes: U8, isolate_digits: bool) -> int:
    r"""End of the match of `\s+(?!\S)|\s+` at a space."""
    stop, last = at, at
    while stop < end:
        c, size = character(data, stop)
        if not classes[c] & SPACE:
            # The piece ends where a number was cut out: no non-space follows.
            if isolate_digits and classes[c] & NUMBER:
                return stop
            break
        last = stop
        stop += size
    if stop == end or last == at:
        return stop
    return last


@kernel
def gpt2_word(data: U8, at: int, end: int, classes: U8, max_digits: int, isolate_digits: bool) -> int:
    r"""End of the word at `at` by `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`."""
    first, size = character(data, at)
    if first == 0x27:
        stop = _contraction(data, at, end, False)
        if stop > at:
            return stop
    kind = classes[first]
    body = at
    if first == 0x20:
        if at + 1 == end:
            return end
        following, size = character(data, at + 1)
        kind = classes[following]
        if isolate_digits and kind & NUMBER:
            return at + 1
        body = at + 1
    if kind & LETTER:
        return _run(data, body + size, end, classes, LETTER, LETTER, end)
    if kind & NUMBER:
        return _run(data, body, end, classes, NUMBER, NUMBER, max_digits)
    if not kind & SPACE:
        return _run(data, body + size, end, classes, LETTER | NUMBER | SPACE, 0, end)
    return _spaces(data, at, end, classes, isolate_digits)


@kernel
def _symbols_and_spaces(data: U8, at: int, end: int, first: int, classes: U8, end_spaces: bool, slash: bool) -> int:
    r"""End of ` ?[^\s\p{L}\p{N}]+[\r\n/]*|\s+\z|\s*[\r\n]+|\s+(?!\S)|\s+`, with `/` and `\s+\z` by flags."""
    body = at + 1 if first == 0x20 else at
    stop = _run(data, body, end, classes, LETTER | NUMBER | SPACE, 0, end)
    if stop > body:
        while stop < end and (data[stop] == 0x0A or data[stop] == 0x0D or (slash and data[stop] == 0x2F)):
            stop += 1
        return stop
    newline, stop = -1, at
    while stop < end:
        c, width = character(data, stop)
        if not classes[c] & SPACE:
            break
        stop += width
        if c == 0x0A or c == 0x0D:
            newline = stop
    if end_spaces and stop == end:
        return end
    if newline >= 0:
        return newline
    return _spaces(data, at, end, classes, False)


@kernel
def cl100k_word(data: U8, at: int, end: int, classes: U8, max_digits: int, end_spaces: bool) -> int:
    """End of the word at `at` by `patterns.llama3`."""
    first, size = character(data, at)
    if first == 0x27:
        stop = _contraction(data, at, end, True)
        if stop > at:
            return stop
    kind = classes[first]
    if kind & LETTER:
        return _run(data, at + size, end, classes, LETTER, LETTER, end)
    if kind & NUMBER:
        return _run(data, at, end, classes, NUMBER, NUMBER, max_digits)
    if first != 0x0A and first != 0x0D and at + size < end:
        following, width = character(data, at + size)
        if classes[following] & LETTER:
            return _run(data, at + size + width, end, classes, LETTER, LETTER, end)
    return _symbols_and_spaces(data, at, end, first, classes, end_spaces, False)


@kernel
def _small_after_capitals(data: U8, at: int, end: int, classes: U8) -> int:
    """End of the match of `UPPER*LOWER+` at `at`, or `at`: a mark or caseless letter is of both kinds."""
    stop, last = at, at  # `last`: end of the last character that LOWER+ could take from UPPER*
    while stop < end:
        c, width = character(data, stop)
        if not classes[c] & UPPER:
            break
        stop += width
        if classes[c] & LOWER:
            last = stop
    small = _run(data, stop, end, classes, LOWER, LOWER, end)
    return small if small > stop else last


@kernel
def o200k_word(data: U8, at: int, end: int, classes: U8, max_digits: int, contractions: bool) -> int:
    """End of the word at `at` by `patterns.o200k`."""
    first, size = character(data, at)
    kind = classes[first]
    prefixed = first != 0x0A and first != 0x0D and not kind & (LETTER | NUMBER)
    stop = at
    if prefixed:
        body = _small_after_capitals(data, at + size, end, classes)
        stop = body if body > at + size else at
    if stop == at:
        stop = _small_after_capitals(data, at, end, classes)
    if stop == at and prefixed:
        body = _run(data, at + size, end, classes, UPPER, UPPER, end)
        stop = body if body > at + size else at
    if stop == at:
        stop = _run(data, at, end, classes, UPPER, UPPER, end)
    if stop > at:
        if contractions and stop < end and data[stop] == 0x27:
            return _contraction(data, stop, end, True)
        return stop
    if kind & NUMBER:
        return _run(data, at, end, classes, NUMBER, NUMBER, max_digits)
    return _symbols_and_spaces(data, at, end, first, classes, False, True)
