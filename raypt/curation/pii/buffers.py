"""What every scanner shares: text as bytes and offsets, a growing list of spans, words near a position.

A scanner is a numba function over the UTF-8 bytes of a whole batch. It looks for a byte that its kind of data cannot do
without ('@', a digit, ':'), and only there looks around, never further back than the last thing it looked at or a fixed
distance. So it is linear in the length of the text, whatever the text is.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from raypt.curation.pii.places import Text
from raypt.kernels import kernel

SPAN_FIELDS = 3
"""A span is (first byte, byte after the last, code of the kind), bytes counted in the data buffer of the batch."""


@kernel
def put(spans, n, first, end, code):  # type: ignore[no-untyped-def]  # pragma: no cover
    """n + 1; the span is written as number n, if there is room."""
    if n < len(spans):
        spans[n, 0], spans[n, 1], spans[n, 2] = first, end, code
    return n + 1


def collect(scan: Callable[..., int], text: Text, *arguments: Any) -> np.ndarray:
    """int64[n, 3]: the spans that `scan(text, spans, *arguments)` writes; it returns their number, room or no room."""
    room = max(64, len(text.data) // 32)  # bytes a span; what is not written takes no memory
    while True:
        spans = np.empty((room, SPAN_FIELDS), np.int64)
        n = scan(text, spans, *arguments)
        if n <= room:
            return spans[:n]
        room = n


class Words(NamedTuple):
    """A set of words to look for, each with a bit that says what it is evidence of."""

    data: np.ndarray
    """uint8: the words, lower case for ASCII, one after the other, ordered by first byte."""
    offsets: np.ndarray
    """int64[n + 1]."""
    bits: np.ndarray
    """uint8[n]."""
    first: np.ndarray
    """int64[257]: words `first[b]` to `first[b + 1]` begin with byte b."""


def make_words(groups: Iterable[tuple[int, str]]) -> Words:
    """`groups`: (bit, words separated by blanks; `_` in a word stands for a blank)."""

    def spellings(word: str) -> set[bytes]:
        """As it is, capitalised, in capitals; ASCII letters always lower, since text is compared that way."""
        cases = (word, word[0].upper() + word[1:], word.upper())
        return {"".join(c.lower() if c.isascii() else c for c in case).encode() for case in cases}

    entries = sorted(
        {(form, bit) for bit, words in groups for word in words.split() for form in spellings(word.replace("_", " "))}
    )
    lengths = [len(word) for word, _ in entries]
    return Words(
        np.frombuffer(b"".join(word for word, _ in entries), np.uint8),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.array([bit for _, bit in entries], np.uint8),
        np.searchsorted([word[0] for word, _ in entries], np.arange(257)).astype(np.int64),
    )


@kernel
def is_letter(b):  # type: ignore[no-untyped-def]  # pragma: no cover
    return 0x41 <= b <= 0x5A or 0x61 <= b <= 0x7A


@kernel
def is_digit(b):  # type: ignore[no-untyped-def]  # pragma: no cover
    return 0x30 <= b <= 0x39


_ABBREVIATION = 6
"""Bytes of the longest word that a full stop abbreviates."""


@kernel
def _ends_sentence(data, j, position):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether a sentence or paragraph ends at j and another begins before `position`."""
    b = data[j]
    if j + 2 >= position:
        return False
    if b == 0x2E or b == 0x21 or b == 0x3F:
        return data[j + 1] == 0x20
    if b == 0x0A:
        return data[j + 1] == 0x0A
    if b == 0xE3:  # ideographic full stop
        return data[j + 1] == 0x80 and data[j + 2] == 0x82
    return b == 0xEF and data[j + 1] == 0xBC and (data[j + 2] == 0x81 or data[j + 2] == 0x9F or data[j + 2] == 0x9B)


@kernel
def words_before(data, low, position, distance, words):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The bits of the words that stand in the `distance` bytes before `position` (not before `low`), in its sentence.

    ASCII words must be whole words, in any case. A full stop right after a short word abbreviates it ("Tel. 030 ...").
    """
    found = np.uint8(0)
    found_end = np.int64(-1)
    j = max(low, position - distance)
    if j > low and data[j - 1] < 0x80:  # do not begin inside a word
        while j < position and is_letter(data[j]) and is_letter(data[j - 1]):
            j += 1
    while j < position:
        b = data[j]
        if j != found_end and _ends_sentence(data, j, position):
            found = np.uint8(0)
        if 0x41 <= b <= 0x5A:
            b |= np.uint8(0x20)
        for k in range(words.first[b], words.first[b + 1]):
            start = words.offsets[k]
            n = words.offsets[k + 1] - start
            if j + n > position:
                continue
            same = True
            for m in range(1, n):
                c = data[j + m]
                if 0x41 <= c <= 0x5A:
                    c |= np.uint8(0x20)
                if c != words.data[start + m]:
                    same = False
                    break
            if not same:
                continue
            if b < 0x80:
                if j > low and (is_letter(data[j - 1]) or is_digit(data[j - 1]) or data[j - 1] == 0x5F):
                    continue
                after = data[j + n]
                longer = is_letter(after) or after == 0x5F or 0xC3 <= after <= 0xD4
                if is_letter(data[j + n - 1]) and (longer or (is_digit(after) and j + n < position)):
                    continue
            found |= words.bits[k]
            if n <= _ABBREVIATION:
                found_end = max(found_end, j + n)
        j += 1
    return found


def byte_table(members: bytes) -> np.ndarray:
    """bool[256]: which bytes are in `members`."""
    table = np.zeros(256, np.bool_)
    table[list(members)] = True
    return table
