"""Other spellings of ASCII, folded before the scanners look: full-width letters, digits and signs (`１３８`, `＠`,
`（010）`), character references (`&#64;`) and addresses made unreadable to robots (`john [at] example [dot] com`).

What stands for a character becomes that character; positions are mapped back, so the text itself keeps its spelling.
"""

from typing import NamedTuple

import numpy as np

from raypt.curation.pii.buffers import byte_table, class_table, grown, is_digit, is_letter, next_three
from raypt.kernels import kernel

_FIRST = class_table({1 | 8: b"\xef", 2: b"&", 4: b"[({"})
_SECOND = class_table({1: b"\xbc", 2: b"#CcPp", 4: b"AaDd ", 8: b"\xbd"})
_WIDE = bytes([0x88, 0x89, 0x8B, 0x8D, 0x8E, 0xBF, *range(0x90, 0x9A), *range(0xA0, 0xBB)])
_THIRD = class_table({1: _WIDE, 2: b"0123456789XxOoEe", 4: b"TtOoAaDd", 8: bytes(range(0x81, 0x9B))})
"""Full-width letters, digits and the signs that are folded; character references; [at], (dot), { at }."""
_SIGNS = byte_table(b"@.-_+")
_AT_NEAR = np.int64(128)
"""Bytes back from `[dot]` in which an address has its `[at]`: the longest local part."""


class Folded(NamedTuple):
    """Text with one byte for each spelling, and the way back."""

    data: np.ndarray
    offsets: np.ndarray
    places: np.ndarray
    """int64[n]: where the folded characters stand in `data`, ascending."""
    longer: np.ndarray
    """int64[n + 1]: bytes by which the original is longer before each of them, and after the last."""

    def original(self, positions: np.ndarray) -> np.ndarray:
        """Byte positions of `data`, in the original."""
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
def _events(data, offsets, tables, signs, references):  # type: ignore[no-untyped-def]  # pragma: no cover
    """int64[n, 3]: (first byte, byte after, ASCII code) of what is folded."""
    out = np.empty((64, 3), np.int64)
    n = 0
    for doc in range(len(offsets) - 1):
        low, high = offsets[doc], offsets[doc + 1]
        i, done, last_at, closing = low, low, low - _AT_NEAR, np.int64(-1)
        while i < high:
            i = next_three(data, i, high, tables[0], tables[1], tables[2])
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
            else:
                first, end, code = _bracketed(data, i, low, high)
                if code == 0x2E:
                    near = i - last_at < _AT_NEAR
                    for k in range(max(low, i - _AT_NEAR), i):
                        near |= data[k] == 0x40
                    if not near:
                        code = np.int64(0)
            if code and first >= done:
                if n == len(out):
                    out = grown(out)
                out[n, 0], out[n, 1], out[n, 2] = first, end, code
                n += 1
                done = end
                if code == 0x40:
                    last_at = i
                i = end
            else:
                i += 1
    return out[:n]


@kernel
def _copy(data, first, last, events, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    w = 0
    i = first
    for k in range(len(events)):
        size = events[k, 0] - i
        out[w : w + size] = data[i : i + size]
        w += size
        out[w] = events[k, 2]
        w += 1
        i = events[k, 1]
    out[w:] = data[i:last]


def fold(data: np.ndarray, offsets: np.ndarray) -> Folded | None:
    """The text with other spellings folded; None if it has none, as most text."""
    events = np.asarray(_events(data, offsets, (_FIRST, _SECOND, _THIRD), _SIGNS, _REFERENCES))
    if not len(events):
        return None
    longer = np.concatenate([[0], np.cumsum(events[:, 1] - events[:, 0] - 1)])
    places = events[:, 0] - longer[:-1] - offsets[0]
    out = np.empty(int(offsets[-1] - offsets[0] - longer[-1]), np.uint8)
    _copy(data, offsets[0], offsets[-1], events, out)
    moved = offsets - longer[np.searchsorted(events[:, 0], offsets, side="left")] - offsets[0]
    return Folded(out, moved, places, longer + offsets[0])
