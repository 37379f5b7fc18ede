"""Writing text without double spaces and empty lines: what stands between two characters is decided when the second
comes. The state is an int64 array, so that kernels can share it.
"""

import numpy as np

from raypt.kernels import kernel

POS = 0  # bytes written
SPACE = 1  # white space waits: 1 a blank, 2 a line break of the source only
BREAKS = 2  # line breaks wait: 1 a new line, 2 an empty line before it
WIDE = 3  # the last character: 1 Chinese or Japanese, which break anywhere, 2 a sign that these share with others
MARKER = 4  # a list item's mark waits: 0 none, 2 a bullet, 2 n + 1 the number n
LIST_DEPTH = 5
PRE = 6  # levels of preformatted text
CELL = 7  # in a cell of a table written as pipes: one line
BRACKET = 8  # an opening bracket waits, or 0: its ASCII code ("[" of a link), or FULL_BRACKET
BRACKETED = 9  # it has been written
RAISED = 10  # characters become superscripts (1) or subscripts (2)
STATE = 11
"""Entries of the state."""
FULL_BRACKET = 1

_SUPER = (0x2070, 0xB9, 0xB2, 0xB3, 0x2074, 0x2075, 0x2076, 0x2077, 0x2078, 0x2079)


@kernel
def put(out, state, c):  # type: ignore[no-untyped-def]
    """Write the UTF-8 of a code point."""
    pos = state[POS]
    if c < 0x80:
        out[pos] = c
        pos += 1
    elif c < 0x800:
        out[pos], out[pos + 1] = 0xC0 | c >> 6, 0x80 | c & 63
        pos += 2
    else:
        out[pos], out[pos + 1], out[pos + 2] = 0xE0 | c >> 12, 0x80 | c >> 6 & 63, 0x80 | c & 63
        pos += 3
    state[POS] = pos


@kernel
def copy(data, start, end, out, state):  # type: ignore[no-untyped-def]
    pos = state[POS]
    for i in range(start, end):
        out[pos] = data[i]
        pos += 1
    state[POS] = pos


@kernel
def put_number(out, state, n):  # type: ignore[no-untyped-def]
    scale = 1
    while n // scale >= 10:
        scale *= 10
    while scale:
        put(out, state, 48 + n // scale % 10)
        scale //= 10


@kernel
def flush(out, state, wide):  # type: ignore[no-untyped-def]
    """Write what waits before a character; `wide`: as WIDE, of this one."""
    last = out[state[POS] - 1] if state[POS] > 0 else np.uint8(10)
    if state[BREAKS] and state[CELL] == 0:
        if state[POS] > 0:
            for _ in range(min(state[BREAKS], 2) - (1 if last == 10 else 0)):
                put(out, state, 10)
    elif (state[SPACE] or state[BREAKS]) and last != 10 and last != 32:
        both = state[WIDE] and wide and (state[WIDE] == 1 or wide == 1)
        if not (state[SPACE] == 2 and state[BREAKS] == 0 and both):
            put(out, state, 32)
    state[BREAKS] = state[SPACE] = 0
    if state[MARKER]:
        if state[CELL] == 0:
            for _ in range(2 * min(state[LIST_DEPTH] - 1, 10)):
                put(out, state, 32)
            if state[MARKER] == 2:
                put(out, state, 45)
            else:
                put_number(out, state, state[MARKER] >> 1)
                put(out, state, 46)
            put(out, state, 32)
        state[MARKER] = 0
    if state[BRACKET]:
        put(out, state, 0xFF08 if state[BRACKET] == FULL_BRACKET else state[BRACKET])
        state[BRACKET], state[BRACKETED] = 0, 1


@kernel
def _entity(data, at, end):  # type: ignore[no-untyped-def]
    """(code point, length) of the entity at `at`; the serialiser writes these four."""
    if at + 4 <= end and data[at + 2] == 116 and data[at + 3] == 59:
        if data[at + 1] == 108:
            return 60, 4
        if data[at + 1] == 103:
            return 62, 4
    if at + 5 <= end and data[at + 1] == 97 and data[at + 2] == 109 and data[at + 3] == 112 and data[at + 4] == 59:
        return 38, 5
    if at + 6 <= end and data[at + 1] == 110 and data[at + 2] == 98 and data[at + 3] == 115 and data[at + 4] == 112:
        return 0xA0, 6
    if at + 6 <= end and data[at + 1] == 113 and data[at + 2] == 117 and data[at + 3] == 111 and data[at + 4] == 116:
        return 34, 6
    return 38, 1


@kernel
def code_point(data, at, end):  # type: ignore[no-untyped-def]
    """(code point, bytes) of the character or entity at `at`."""
    c = np.int64(data[at])
    if c == 38:
        return _entity(data, at, end)
    if c < 0xC0:
        return c, 1
    if c < 0xE0 and at + 1 < end:
        return (c & 31) << 6 | (data[at + 1] & 63), 2
    if c < 0xF0 and at + 2 < end:
        return (c & 15) << 12 | np.int64(data[at + 1] & 63) << 6 | (data[at + 2] & 63), 3
    if at + 3 < end:
        low = np.int64(data[at + 1] & 63) << 12 | np.int64(data[at + 2] & 63) << 6 | (data[at + 3] & 63)
        return (c & 7) << 18 | low, 4
    return c, 1


@kernel
def _width(c):  # type: ignore[no-untyped-def]
    """1: Chinese and Japanese characters and their punctuation (not Hangul, which is written with spaces). 2: signs of
    ambiguous width (UAX 11), which are theirs beside these: “ — … · ① Ⅲ ■."""
    if 0x2E80 <= c < 0xA4D0 or 0xF900 <= c < 0xFB00 or 0xFE30 <= c < 0xFE50 or 0xFF00 <= c < 0xFFF0 or c >= 0x20000:
        return 1
    if c == 0xB7 or 0x2010 <= c < 0x2060 or 0x2150 <= c < 0x2190 or 0x2460 <= c < 0x2500 or 0x25A0 <= c < 0x2700:
        return 2
    return 0


@kernel
def raised(c, how):  # type: ignore[no-untyped-def]
    """The superscript (how = 1) or subscript (2) of a character, 0 if Unicode has none that fonts have."""
    if 48 <= c <= 57:
        return _SUPER[c - 48] if how == 1 else 0x2080 + c - 48
    base = 0x207A if how == 1 else 0x208A
    if c == 43:
        return base
    if c == 45 or c == 0x2212 or c == 0x2013:
        return base + 1
    if c == 61:
        return base + 2
    if c == 40:
        return base + 3
    if c == 41:
        return base + 4
    if how == 1 and c == 110:
        return 0x207F
    if how == 1 and c == 105:
        return 0x2071
    return 0


@kernel
def write_text(data, start, end, out, state):  # type: ignore[no-untyped-def]
    """Write a text node, unless it is one character of private use: the icon of a font."""
    if end - start == 3:
        c, _ = code_point(data, start, end)
        if 0xE000 <= c < 0xF900:
            return
    at = start
    while at < end:
        # Most bytes: a letter or a Chinese character right after another.
        if (
            state[SPACE] == 0
            and state[BREAKS] == 0
            and state[MARKER] == 0
            and state[BRACKET] == 0
            and state[RAISED] == 0
        ):
            pos = state[POS]
            wide = state[WIDE]
            while at < end:
                lead = data[at]
                if 32 < lead < 127 and lead != 38 and lead != 124:
                    out[pos] = lead
                    pos += 1
                    at += 1
                    wide = 0
                elif 0xE4 <= lead <= 0xE9 and at + 2 < end:
                    out[pos], out[pos + 1], out[pos + 2] = lead, data[at + 1], data[at + 2]
                    pos += 3
                    at += 3
                    wide = 1
                else:
                    break
            state[POS], state[WIDE] = pos, wide
            if at == end:
                return
        c, length = code_point(data, at, end)
        if state[PRE]:
            if c == 13:
                c = 10
                if at + 1 < end and data[at + 1] == 10:
                    length = 2
            if c == 10 or c == 9 or c == 32 or c == 0xA0:
                if state[BREAKS] == 0 and state[MARKER] == 0:
                    put(out, state, 32 if c == 0xA0 else c)
                elif c == 32 or c == 0xA0:
                    flush(out, state, 0)
                    put(out, state, 32)
                at += length
                continue
        elif c == 32 or c == 9 or c == 0xA0:
            state[SPACE] = 1 if state[SPACE] != 2 else state[SPACE]
            if c == 0xA0:
                state[SPACE] = 1
            at += length
            continue
        elif c == 10 or c == 13 or c == 12:
            if state[SPACE] == 0 or state[SPACE] == 1:
                state[SPACE] = 2
            at += length
            continue
        if c < 32 or c == 127 or c == 0xAD or c == 0xFEFF:  # controls, soft hyphens, byte order marks
            at += length
            continue
        if c == 0x3000 and (state[BREAKS] or state[POS] == 0) and not state[PRE]:  # an indented paragraph
            at += length
            continue
        wide = _width(c)
        flush(out, state, wide)
        state[WIDE] = wide
        mark = raised(c, state[RAISED]) if state[RAISED] else 0
        if mark:
            put(out, state, mark)
        elif data[at] == 38:
            put(out, state, c)
        else:
            if c == 124 and state[CELL]:
                put(out, state, 92)
            copy(data, at, at + length, out, state)
        at += length


@kernel
def write_plain(text, start, end, out, state):  # type: ignore[no-untyped-def]
    """Write bytes as they are, as one word."""
    if end > start:
        flush(out, state, 0)
        copy(text, start, end, out, state)
        state[WIDE] = 0
