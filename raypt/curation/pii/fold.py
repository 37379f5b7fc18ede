"""Other spellings of ASCII, folded before the scanners look: full-width letters, digits and signs (`１３８`, `＠`,
`（010）`), character references (`&#64;`) and addresses made unreadable to robots (`john [at] example [dot] com`).

What stands for a character becomes that character; positions are mapped back, so the text itself keeps its spelling.
"""

from typing import NamedTuple

import numpy as np

from raypt.curation.pii.buffers import byte_table, collect, is_digit, is_letter, put
from raypt.curation.pii.places import SPELLING, Text, next_place, prepare
from raypt.kernels import allocating_kernel, kernel

_SIGNS = byte_table(b"@.-_+")
_GAP = np.int64(0x0A)
_AT_NEAR = np.int64(128)
"""Bytes back from `[dot]` in which an address has its `[at]`: the longest local part."""


class Folded(NamedTuple):
    """The documents of a batch that have other spellings, with one byte for each, and the way back."""

    text: Text
    """The documents between those that have none are one byte, a document of its own."""
    documents: np.ndarray
    """bool[documents of the batch]: which are folded."""
    places: np.ndarray
    """int64[n]: where the folded characters stand in it, ascending."""
    longer: np.ndarray
    """int64[n + 1]: bytes by which the original is longer before each of them, and after the last."""

    def original(self, positions: np.ndarray) -> np.ndarray:
        """Byte positions of `text`, in the original."""
        moved: np.ndarray = positions + self.longer[np.searchsorted(self.places, positions, side="left")]
        return moved


@kernel
def _full_width(data, i, high):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The ASCII code of the full-width character at i, or 0."""
    if i + 2 >= high or data[i] != 0xEF:
        return np.int64(0)
    if data[i + 1] == 0xBC and 0x81 <= data[i + 2] <= 0xBF:
        return np.int64(data[i + 2]) - 0x81 + 0x21
    if data[i + 1] == 0xBD and 0x80 <= data[i + 2] <= 0x9E:
        return np.int64(data[i + 2]) - 0x80 + 0x60
    return np.int64(0)


@kernel
def _some_digit(data, i, high):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Bytes of the digit at i, of either width, or 0."""
    if i < high and is_digit(data[i]):
        return 1
    return 3 if 0x30 <= _full_width(data, i, high) <= 0x39 else 0


@kernel
def _area_end(data, i, low, high):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Where the ')' of a number in full-width parentheses at i stands, or -1: two to five digits, or one or an A after
    a digit (`A123456（3）`)."""
    j, digits = i + 3, 0
    while digits < 6:
        n = _some_digit(data, j, high)
        if n == 0:
            break
        j += n
        digits += 1
    after_digit = (i > low and is_digit(data[i - 1])) or (i - 3 >= low and _some_digit(data, i - 3, high) == 3)
    if digits == 0 and after_digit and j < high and data[j] == 0x41:
        j, digits = j + 1, 1
    if not (2 <= digits <= 5 or (digits == 1 and after_digit)):
        return -1
    return j if _full_width(data, j, high) == 0x29 else -1


@kernel
def _spells(data, i, high, text):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether `text` (small letters) stands at i, in any case."""
    if i + len(text) > high:
        return False
    for k in range(len(text)):
        b = data[i + k]
        if 0x41 <= b <= 0x5A:
            b |= np.uint8(0x20)
        if b != text[k]:
            return False
    return True


@kernel
def _reference(data, i, high, references):  # type: ignore[no-untyped-def]  # pragma: no cover
    """`(bytes, ASCII code)` of the character reference at i, or (0, 0)."""
    for k in range(len(references)):
        n = references[k, 0]
        if _spells(data, i, high, references[k, 2 : 2 + n]):
            return np.int64(n), np.int64(references[k, 1])
    return np.int64(0), np.int64(0)


def _references() -> np.ndarray:
    """uint8[n, 16]: length, code, bytes."""
    forms = {"@": ("&#64;", "&#064;", "&#x40;", "&commat;"), ".": ("&#46;", "&#046;", "&#x2e;", "&period;")}
    out = np.zeros((8, 16), np.uint8)
    rows = [(ord(char), form.encode()) for char, spellings in forms.items() for form in spellings]
    for row, (code, form) in zip(out, rows, strict=True):
        row[0], row[1], row[2 : 2 + len(form)] = len(form), code, list(form)
    return out


_REFERENCES = _references()


@kernel
def _alnum(b):  # type: ignore[no-untyped-def]  # pragma: no cover
    return is_letter(b) or is_digit(b)


@kernel
def _bracketed(data, i, low, high):  # type: ignore[no-untyped-def]  # pragma: no cover
    """`(first byte, byte after, ASCII code)` of `[at]`, `(dot)`, ... with the blanks around it; code 0 if none is
    here."""
    close = 0x29 if data[i] == 0x28 else (0x5D if data[i] == 0x5B else 0x7D)
    j = i + 1
    if j < high and data[j] == 0x20:
        j += 1
    code = np.int64(0)
    if j + 1 < high and data[j] | 0x20 == 0x61 and data[j + 1] | 0x20 == 0x74:
        code, j = np.int64(0x40), j + 2
    elif j + 2 < high and data[j] | 0x20 == 0x64 and data[j + 1] | 0x20 == 0x6F and data[j + 2] | 0x20 == 0x74:
        code, j = np.int64(0x2E), j + 3
    if code and j < high and data[j] == 0x20:
        j += 1
    if not code or j >= high or data[j] != close:
        return i, i, np.int64(0)
    first, end = i, j + 1
    if first > low and data[first - 1] == 0x20:
        first -= 1
    if end < high and data[end] == 0x20:
        end += 1
    if first == low or end >= high or not _alnum(data[first - 1]) or not _alnum(data[end]):
        return i, i, np.int64(0)
    return first, end, code


@kernel
def _events(text, events, signs, references):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Write (first byte, byte after, ASCII code) of what is folded; their number."""
    data, offsets, starts = text.data, text.offsets, text.places[SPELLING]
    n = 0
    for doc in range(len(offsets) - 1):
        low, high = offsets[doc], offsets[doc + 1]
        i, done, last_at, closing = low, low, low - _AT_NEAR, np.int64(-1)
        while i < high:
            i = next_place(starts, i, high)
            if i >= high:
                break
            first, end, code = i, i, np.int64(0)
            b = data[i]
            if b == 0xEF:
                code = _full_width(data, i, high)
                end = i + 3
                if code == 0x28:
                    closing = _area_end(data, i, low, high)
                    if closing < 0:
                        code = np.int64(0)
                elif code == 0x29:
                    code = code if i == closing else np.int64(0)
                elif code and not (_alnum(code) or signs[code]):
                    code = np.int64(0)
            elif b == 0x26:
                size, code = _reference(data, i, high, references)
                end = i + size
            elif b == 0x28 or b == 0x5B or b == 0x7B:
                first, end, code = _bracketed(data, i, low, high)
                if code == 0x2E:
                    near = i - last_at < _AT_NEAR
                    for k in range(max(low, i - _AT_NEAR), i):
                        near |= data[k] == 0x40
                    if not near:
                        code = np.int64(0)
            if code and first >= done:
                n = put(events, n, first, end, code)
                done = end
                if code == 0x40:
                    last_at = i
                i = end
            else:
                i += 1
    return n


@allocating_kernel
def _copy(data, events, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    w = 0
    i = np.int64(0)
    for k in range(len(events)):
        size = events[k, 0] - i
        out[w : w + size] = data[i : i + size]
        w += size
        out[w] = events[k, 2]
        w += 1
        i = events[k, 1]
    out[w:] = data[i:]


def fold(text: Text) -> Folded | None:
    """The documents that have other spellings, with them folded; None if none has, as in most text."""
    events = collect(_events, text, _SIGNS, _REFERENCES)
    if not len(events):
        return None
    folded = np.zeros(len(text.offsets) - 1, np.bool_)
    folded[np.searchsorted(text.offsets, events[:, 0], side="right") - 1] = True
    edges = np.diff(np.concatenate([[False], folded, [False]]).astype(np.int8))
    first, after = text.offsets[edges == 1], text.offsets[edges == -1]
    gaps = np.stack([np.concatenate([[0], after]), np.concatenate([first, [len(text.data)]])], axis=1)
    gaps = gaps[gaps[:, 0] < gaps[:, 1]]
    events = np.concatenate([events, np.column_stack([gaps, np.full(len(gaps), _GAP)])])
    events = events[np.argsort(events[:, 0])]
    longer = np.concatenate([[0], np.cumsum(events[:, 1] - events[:, 0] - 1)])
    inside = np.flatnonzero(folded)
    bounds = np.unique(np.concatenate([[0, len(text.data)], text.offsets[inside], text.offsets[inside + 1]]))
    offsets = bounds - longer[np.searchsorted(events[:, 0], bounds, side="left")]
    out = np.empty(len(text.data) - int(longer[-1]), np.uint8)
    _copy(text.data, events, out)
    return Folded(prepare(out, offsets), folded, events[:, 0] - longer[:-1], longer)
