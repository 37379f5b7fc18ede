"""Number runs: digits in groups with separators between, as people write telephone, card and identity numbers."""

import numpy as np

from raypt.curation.pii.buffers import is_digit, is_letter
from raypt.kernels import kernel

MAX_GROUPS = 24
START, END, SEP, PAREN, PLUS = 0, 1, 2, 3, 4
"""Columns of a run, int64[MAX_GROUPS, 5]: first byte and byte after the digits of a group, the separator before it, and
whether it stands in parentheses and after a '+'."""
NONE, SPACE, DASH, DOT, SLASH, CLOSE, OPEN, WIDE = 0, 1, 2, 3, 4, 5, 6, 7
"""Separators: one blank; a hyphen or dash; a full stop; a slash; the ')' of the group before, with or without a blank
or hyphen; a '(' (a group in parentheses follows); a dash with blanks on both sides."""


@kernel
def _blank(data, i, high):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Length in bytes of the single blank (also no-break, thin, full-width) at i, or 0."""
    if i >= high:
        return 0
    b = data[i]
    if b == 0x20:
        return 1
    if b == 0xC2 and i + 1 < high and data[i + 1] == 0xA0:
        return 2
    if b == 0xE2 and i + 2 < high and data[i + 1] == 0x80 and (data[i + 2] == 0xAF or 0x87 <= data[i + 2] <= 0x89):
        return 3
    if b == 0xE3 and i + 2 < high and data[i + 1] == 0x80 and data[i + 2] == 0x80:
        return 3
    return 0


@kernel
def _dash(data, i, high):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Length in bytes of the hyphen or dash at i, or 0."""
    if i >= high:
        return 0
    if data[i] == 0x2D:
        return 1
    if data[i] == 0xE2 and i + 2 < high and data[i + 1] == 0x80 and 0x90 <= data[i + 2] <= 0x95:
        return 3
    return 0


@kernel
def _separator(data, i, high, in_paren):  # type: ignore[no-untyped-def]  # pragma: no cover
    """(separator after a group that ends at i, byte after it); NONE if the run ends at i, or after its ')'."""
    j = i
    closed = False
    if in_paren:
        j += 1
        closed = True
    kind = CLOSE if closed else NONE
    n = _blank(data, j, high)
    if n:
        j += n
        if not closed:
            kind = SPACE
        n = _dash(data, j, high)
        if n:
            m = _blank(data, j + n, high)
            if not m and not closed:
                return NONE, i
            j += n + m
            kind = CLOSE if closed else WIDE
        elif j < high and data[j] == 0x2F:
            m = _blank(data, j + 1, high)
            j += 1 + m
            kind = SLASH
    else:
        n = _dash(data, j, high)
        if n:
            j += n
            kind = CLOSE if closed else DASH
        elif j < high and data[j] == 0x2E:
            j += 1
            kind = DOT
        elif j < high and data[j] == 0x2F:
            j += 1
            kind = SLASH
    if j < high and data[j] == 0x28 and kind <= SPACE:
        k = j + 1
        while k < high and k < j + 8 and is_digit(data[k]):
            k += 1
        if k > j + 1 and k < high and data[k] == 0x29:
            return OPEN, j + 1
        return NONE, i
    if kind == NONE or j >= high or not is_digit(data[j]):
        return NONE, i
    return kind, j


@kernel
def parse_run(data, i, high, run):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Fill `run` from the digit, '+' or '(' at i; (number of groups, byte after them, whether more groups follow)."""
    n = 0
    paren, plus, sep = False, False, NONE
    j = i
    if data[j] == 0x28:
        paren = True
        j += 1
    if j < high and data[j] == 0x2B:
        plus = True
        j += 1
        if j < high and data[j] == 0x28 and not paren:
            paren = True
            j += 1
    if j >= high or not is_digit(data[j]):
        return 0, i + 1, False
    while True:
        start = j
        while j < high and is_digit(data[j]):
            j += 1
        paren = paren and j < high and data[j] == 0x29  # else the '(' is not part of the number
        run[n, START], run[n, END], run[n, SEP] = start, j, sep
        run[n, PAREN], run[n, PLUS] = paren, plus
        n += 1
        after = j + 1 if paren else j
        sep, nxt = _separator(data, j, high, paren)
        if sep == NONE:
            return n, after, False
        if n == MAX_GROUPS:
            return n, after, True
        paren, plus = sep == OPEN, False
        j = nxt


@kernel
def left_open(data, low, i):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether a number may begin at i: not inside a word, a decimal fraction, a path or an identifier."""
    if i == low or data[i] == 0x28:
        return True
    b = data[i - 1]
    if is_letter(b) or is_digit(b) or b == 0x5F or b == 0x23 or b == 0x40 or b == 0x24 or b == 0x5C or b == 0x25:
        return False
    if b == 0x2B and data[i] != 0x2B:
        return False
    before = data[i - 2] if i - 2 >= low else np.uint8(0)
    if b == 0x2E:
        return is_letter(before)  # "Tel.030..."; a digit before the stop would make it a fraction
    if b == 0x2C or b == 0x3A:  # thousands; a time of day
        return not is_digit(before)
    if b == 0x2F or b == 0x2D:
        return before == 0x20 or before == 0x0A or before >= 0x80
    return True


@kernel
def right_open(data, high, i):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether a number may end before i."""
    if i >= high:
        return True
    b = data[i]
    if is_letter(b) or is_digit(b) or b == 0x5F or b == 0x25 or b == 0x40 or b == 0x24 or b == 0x5C:
        return False
    if (b == 0x2C or b == 0x2D or b == 0x2B or b == 0x3A or b == 0x2F or b == 0x2E) and i + 1 < high:
        after = data[i + 1]
        if b == 0x2C or b == 0x2B or b == 0x3A:
            return not is_digit(after)
        if b == 0x2E:
            return True
        if b == 0x2D and 0x41 <= after <= 0x5A and i + 2 < high and 0x61 <= data[i + 2] <= 0x7A:
            return True  # "030 1234567-Fax"
        return not (is_letter(after) or is_digit(after))
    return True
