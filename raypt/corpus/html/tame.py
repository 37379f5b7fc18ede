"""Markup that makes the parser slow: its time is quadratic in the attributes of a tag and in the options of a list.

180 KB of either take seconds, 700 KB minutes. What is beyond MAX_ATTRIBUTES and MAX_OPTIONS is cut before parsing; no
page that people read has so many, and no text is lost by it: options are controls.
"""

import numpy as np

from raypt.kernels import allocating_kernel, kernel

MAX_ATTRIBUTES = 500
"""Attributes of one tag."""
MAX_OPTIONS = 2_000
"""`option` and `optgroup` tags of a page."""
SMALL = 1 << 16
"""Bytes of a page for which neither matters: 0.4 s at worst."""


def tame(page: bytes) -> bytes:
    """A page, in a character set whose markup is ASCII, without the attributes and options that are too many."""
    if len(page) < SMALL:
        return page
    data = np.frombuffer(page, np.uint8)
    if _tame(data, np.empty(0, np.uint8), False) == len(data):
        return page
    out = np.empty(len(data), np.uint8)
    return out[: int(_tame(data, out, True))].tobytes()


@kernel
def _is_option(data, at):  # type: ignore[no-untyped-def]
    """Whether the name at `at` begins with opt, in any case: option, optgroup."""
    return (data[at] | 32) == 111 and (data[at + 1] | 32) == 112 and (data[at + 2] | 32) == 116


@kernel
def _through_tag(data, at):  # type: ignore[no-untyped-def]
    """(position after the tag whose name begins at `at`, where its attributes become too many or -1)."""
    n = len(data)
    begin = at
    while at < n and data[at] != 62:
        c = data[at]
        at += 1
        if c == 61:  # a value: quoted, it can hold ">"
            while at < n and data[at] <= 32:
                at += 1
            if at < n and (data[at] == 34 or data[at] == 39):
                c = data[at]
                at += 1
                while at < n and data[at] != c:
                    at += 1
                at += 1
    if at >= n:
        return n, -1  # no end of the tag: nothing of it becomes an element
    return at + 1, _cut(data, begin, at) if at - begin > 2 * MAX_ATTRIBUTES else -1


@kernel
def _cut(data, at, end):  # type: ignore[no-untyped-def]
    """Where, in the tag [at, end), the attributes become too many; -1 if they do not."""
    attributes = 0
    quote = np.uint8(0)
    value = False
    while at < end:
        c = data[at]
        if quote:
            if c == quote:
                quote = np.uint8(0)
        elif (c == 34 or c == 39) and value:
            quote, value = c, False
        elif c == 61:
            value = True
        elif c > 32:
            value = False
            before = data[at - 1]
            if before <= 32 or before == 47 or before == 34 or before == 39:
                attributes += 1
                if attributes > MAX_ATTRIBUTES:
                    return at
        at += 1
    return -1


@allocating_kernel
def _tame(data, out, write):  # type: ignore[no-untyped-def]
    """Length of the tamed page; the page itself in `out` if `write`."""
    n = len(data)
    options = 0
    pos = at = 0
    while at < n:
        begin = at
        at += 1
        while at < n and data[at] != 60:
            at += 1
        end = at
        if data[begin] == 60 and begin + 5 < n:
            name = begin + 2 if data[begin + 1] == 47 else begin + 1
            if 97 <= (data[name] | 32) <= 122:
                drop = False
                if _is_option(data, name):
                    options += 1
                    drop = options > MAX_OPTIONS
                tag_end, cut = _through_tag(data, name)
                if drop or cut >= 0:
                    if write and not drop:
                        out[pos : pos + cut - begin] = data[begin:cut]
                        out[pos + cut - begin] = 62
                    pos += 0 if drop else cut - begin + 1
                    at = tag_end
                    continue
                at = end = max(end, tag_end)
        if write:
            out[pos : pos + end - begin] = data[begin:end]
        pos += end - begin
    return pos
