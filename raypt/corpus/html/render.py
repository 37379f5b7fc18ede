"""The kept nodes of a page as text: one pass that writes UTF-8.

White space is collapsed as browsers do it (CSS Text 3, 4.1; a line break of the source between two Chinese or Japanese
characters is none), blocks stand on lines of their own, list items get their marks, `pre` keeps its lines.
"""

from dataclasses import dataclass, field

import numpy as np

from raypt.corpus.html import marks, names, tables
from raypt.corpus.html.choose import Choice
from raypt.corpus.html.lines import (
    BRACKET,
    BRACKETED,
    BREAKS,
    CELL,
    FULL_BRACKET,
    LIST_DEPTH,
    MARKER,
    POS,
    PRE,
    RAISED,
    SPACE,
    STATE,
    code_point,
    copy,
    flush,
    put,
    raised,
    write_plain,
    write_text,
)
from raypt.corpus.html.scan import Nodes
from raypt.corpus.html.weigh import KEPT
from raypt.kernels import kernel

_TAG = names.TAG_MASK
(
    _A, _BR, _CODE, _DD, _DIV, _DT, _LI, _OL, _PRE, _Q, _RP, _RT, _SUB, _SUP, _TABLE, _TD, _TH, _THEAD, _TR, _SAMP,
    _KBD, _CAPTION,
) = names.numbers("a br code dd div dt li ol pre q rp rt sub sup table td th thead tr samp kbd caption")  # fmt: skip
_TIGHT = (_LI, _DIV, _DT, _DD, _TR, _TD, _TH, _CAPTION)
_HREF, _CLASS, _START, _VALUE = (np.uint64(names.name_hash(n)) for n in ("href", "class", "start", "value"))

RAISED_NODES, RAISED_CHARACTERS = 64, 16
"""A sup or sub of more is written as it is."""
KEEP_LINKS, FENCES, PIPES, RUBY = 1, 2, 4, 8
"""Bits of `how`: links as `[text](href)`, code between fences, tables between pipes, the readings of ruby."""


@dataclass
class Replacements:
    """Texts that stand for nodes (formulas): `of` int32[capacity], a node's number here or -1; `data` is their UTF-8,
    number i is `data[ends[i - 1]:ends[i]]`; `block` uint8, it stands on a line of its own."""

    of: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    data: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))
    ends: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int32))
    block: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))

    def clear(self, nodes: int) -> None:
        if len(self.of) < nodes:
            self.of = np.empty(nodes + (nodes >> 1), np.int32)
        self.of[:nodes] = -1
        self.data, self.ends, self.block = np.zeros(0, np.uint8), np.zeros(1, np.int32), np.zeros(0, np.uint8)

    def set(self, texts: dict[int, tuple[str, bool]]) -> None:
        """node -> (text, whether it is a block)."""
        encoded = [text.encode() for text, _ in texts.values()]
        self.of[np.fromiter(texts, np.int64, len(texts))] = np.arange(len(texts))
        self.data = np.frombuffer(b"".join(encoded), np.uint8)
        self.ends = np.concatenate([[0], np.cumsum([len(e) for e in encoded])]).astype(np.int32)
        self.block = np.array([b for _, b in texts.values()], np.uint8)


@dataclass
class Renderer:
    """Scratch of `read`. Shapes: all [capacity]."""

    out: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint8))
    stack: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    number: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    is_data: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint8))
    state: np.ndarray = field(default_factory=lambda: np.zeros(STATE, np.int64))
    row: np.ndarray = field(default_factory=lambda: np.zeros(tables.ROW_STATE, np.int64))

    def read(
        self, data: np.ndarray, nodes: Nodes, choice: Choice, replaced: Replacements, roots: list[int], how: int
    ) -> str:
        """The text of what `choice` keeps of a page at and below each of the `roots`."""
        n = nodes.count
        if len(self.stack) < n:
            size = n + (n >> 1)
            self.stack, self.number = np.empty(size, np.int32), np.empty(size, np.int32)
            self.is_data = np.empty(size, np.uint8)
        tables.find_data_tables(
            n, nodes.kind, nodes.parent, choice.drop, choice.chars, self.is_data, self.stack, self.number
        )
        # A character becomes three bytes at most; beside them a node writes marks, indentation, fences, bars: < 160.
        most = 3 * len(data) + 160 * n + len(replaced.data) + 1024
        if len(self.out) < most:
            self.out = np.empty(most + (most >> 1), np.uint8)
        self.state[:] = 0
        for root in roots:
            self.state[BREAKS] = 2
            _render(
                data, root, nodes.kind, nodes.parent, nodes.stop, nodes.lo, nodes.hi, choice.drop, choice.flags,
                self.is_data, replaced.of, replaced.data, replaced.ends, replaced.block, self.stack, self.number,
                self.row, self.state, self.out, how,
            )  # fmt: skip
        return self.out[: int(self.state[POS])].tobytes().decode().strip()


@kernel
def _find_class(data, lo, hi, prefix):  # type: ignore[no-untyped-def]
    """(start, end) of what follows `prefix` in the class name that begins with it; (0, 0) if none does."""
    first, last = marks.attribute(data, lo, hi, _CLASS)
    at = first
    while 0 <= at < last:
        begin = at
        while at < last and data[at] > 32:
            at += 1
        if at - begin > len(prefix):
            same = True
            for i in range(len(prefix)):
                same &= data[begin + i] == prefix[i]
            if same:
                return begin + len(prefix), at
        at += 1
    return 0, 0


@kernel
def _language(data, lo, hi):  # type: ignore[no-untyped-def]
    """(start, end) of the name of a programming language in the class names of an element, as highlighters write it."""
    for prefix in (b"language-", b"lang-", b"highlight-source-", b"highlight-", b"sourceCode "):
        first, last = _find_class(data, lo, hi, prefix)
        if last > first:
            return first, last
    return 0, 0


@kernel
def _fence(data, node, kind, parent, stop, lo, hi, drop, flags):  # type: ignore[no-untyped-def]
    """(length of the fence, language start, end) of a `pre`; length 0 where nothing says that it holds code."""
    is_code = flags[node] & names.CODE != 0
    first, last = _language(data, lo[node], hi[node])
    up = parent[node]
    for _ in range(3):
        if up >= 0:
            is_code |= flags[up] & names.CODE != 0
            if last == first:
                first, last = _language(data, lo[up], hi[up])
            up = parent[up]
    run = longest = 0
    for i in range(node + 1, stop[node]):
        tag = kind[i] & _TAG
        if tag == _CODE or tag == _SAMP or tag == _KBD:
            is_code = True
            if last == first:
                first, last = _language(data, lo[i], hi[i])
        elif tag == names.TEXT and drop[i] == KEPT:
            for j in range(lo[i], hi[i]):
                run = run + 1 if data[j] == 96 else 0
                longest = max(longest, run)
    if not is_code and last == first:
        return 0, 0, 0
    return min(max(3, longest + 1), 64), first, last


@kernel
def _raise(data, node, is_sup, kind, stop, lo, hi, drop, out, state):  # type: ignore[no-untyped-def]
    """How to write a sup or sub: 0 as it is, 1 or 2 in Unicode's superscripts or subscripts, 3 between ^( and ), 4
    after _. Only what stands on a letter, digit or bracket is raised."""
    pos = state[POS]
    if pos == 0 or state[SPACE] or state[BREAKS] or state[PRE] or state[RAISED] or state[BRACKET]:
        return 0
    c = out[pos - 1]
    if not (48 <= c <= 57 or 65 <= c <= 90 or 97 <= c <= 122 or c == 41 or c == 93 or c == 125 or c >= 128):
        return 0
    if stop[node] - node > RAISED_NODES:
        return 0
    length, letters, others, mapped = 0, 0, 0, True
    for i in range(node + 1, stop[node]):
        if length > RAISED_CHARACTERS:
            return 0
        if kind[i] != names.TEXT or drop[i] != KEPT:
            continue
        at = lo[i]
        while at < hi[i]:
            value, size = code_point(data, at, hi[i])
            at += size
            if value <= 32:
                continue
            length += 1
            mapped &= raised(value, 1 if is_sup else 2) != 0
            if 65 <= value <= 90 or 97 <= value <= 122:
                letters += 1
            elif not 48 <= value <= 57:
                others += 1
            if value == 91:  # a reference: [1]
                return 0
    if length == 0 or length > RAISED_CHARACTERS:
        return 0
    if mapped:
        return 1 if is_sup else 2
    if not is_sup:
        return 4 if others == 0 else 0
    return 3 if others and length > 1 and (letters or length > others) else 0


@kernel
def _render(  # type: ignore[no-untyped-def]
    data, root, kind, parent, stop, lo, hi, drop, flags, is_data, replaced, texts, ends, is_block, stack, number, row,
    state, out, how,
):  # fmt: skip
    depth = 0
    fence = fence_at = 0
    data_table = -1
    node, count = root, stop[root]
    while node < count or depth > 0:
        if depth > 0 and (node >= count or stop[stack[depth - 1]] <= node):
            depth -= 1
            ended = stack[depth]
            tag = kind[ended] & _TAG
            if tag == _A:
                if state[BRACKETED] == 1:
                    first, last = marks.attribute(data, lo[ended], hi[ended], _HREF)
                    put(out, state, 93)
                    put(out, state, 40)
                    while first < last:
                        value, size = code_point(data, first, last)
                        if data[first] == 38:
                            put(out, state, value)
                        elif value > 32:
                            copy(data, first, first + size, out, state)
                        first += size
                    put(out, state, 41)
                state[BRACKET] = state[BRACKETED] = 0
            elif tag == _RT:
                if state[BRACKETED] == 1:
                    put(out, state, 0xFF09)
                state[BRACKET] = state[BRACKETED] = 0
            elif tag == _SUP or tag == _SUB:
                if number[ended] == 3:
                    put(out, state, 41)
                state[RAISED] = 0
            elif tag == _Q:
                flush(out, state, 0)
                put(out, state, 0x201D)
            elif tag == _PRE:
                state[PRE] -= 1
                if state[PRE] == 0:
                    while state[POS] > fence_at and (out[state[POS] - 1] <= 32):
                        state[POS] -= 1
                    if fence and state[POS] == fence_at:  # nothing in it
                        state[POS] = number[ended]
                    elif fence:
                        put(out, state, 10)
                        for _ in range(fence):
                            put(out, state, 96)
                    fence = 0
            elif tag == _TABLE and ended == data_table:
                data_table = -1
            elif data_table >= 0 and (tag == _TD or tag == _TH):
                tables.end_cell(out, state, row)
            elif data_table >= 0 and tag == _TR:
                tables.end_row(kind[parent[ended]] & _TAG == _THEAD, out, state, row)
            if kind[ended] & names.LIST:
                state[LIST_DEPTH] -= 1
            if kind[ended] & names.BLOCK:
                wanted = 1 if tag in _TIGHT or (kind[ended] & names.LIST and state[LIST_DEPTH] > 0) else 2
                state[BREAKS] = max(state[BREAKS], wanted)
            continue
        if drop[node] != KEPT and kind[node] != names.TEXT and replaced[node] < 0:
            node = stop[node]
            continue
        tag = kind[node] & _TAG
        text = replaced[node]
        if text >= 0:
            if is_block[text]:
                state[BREAKS] = max(state[BREAKS], 1)
            write_plain(texts, ends[text], ends[text + 1], out, state)
            if is_block[text]:
                state[BREAKS] = max(state[BREAKS], 1)
            node = stop[node]
            continue
        if tag == names.TEXT:
            if drop[node] == KEPT:
                write_text(data, lo[node], hi[node], out, state)
            node += 1
            continue
        number[node] = 0
        if kind[node] & names.BLOCK:
            wanted = 1 if tag in _TIGHT or (kind[node] & names.LIST and state[LIST_DEPTH] > 0) else 2
            state[BREAKS] = max(state[BREAKS], 1 if state[MARKER] else wanted)
        if tag == _BR:
            if state[PRE]:
                put(out, state, 10)
            else:
                state[BREAKS] = min(state[BREAKS] + 1, 2)
        elif kind[node] & names.LIST:
            state[LIST_DEPTH] += 1
            number[node] = marks.number_attribute(data, lo[node], hi[node], _START, 1) - 1 if tag == _OL else -1
        elif tag == _LI:
            up = parent[node]
            state[MARKER] = 2
            if up >= 0 and kind[up] & _TAG == _OL:
                number[up] = marks.number_attribute(data, lo[node], hi[node], _VALUE, number[up] + 1)
                state[MARKER] = 2 * number[up] + 1
        elif tag == _A:
            if how & KEEP_LINKS and state[BRACKET] == 0 and state[PRE] == 0:
                first, last = marks.attribute(data, lo[node], hi[node], _HREF)
                if (
                    last > first
                    and data[first] != 35
                    and not (data[first] == 106 and last > first + 10 and data[first + 10] == 58)
                ):
                    state[BRACKET] = 91
            state[BRACKETED] = 0
        elif tag == _RP:
            node = stop[node]
            continue
        elif tag == _RT:
            if not how & RUBY:
                node = stop[node]
                continue
            state[BRACKET], state[BRACKETED] = FULL_BRACKET, 0
        elif tag == _SUP or tag == _SUB:
            how_raised = _raise(data, node, tag == _SUP, kind, stop, lo, hi, drop, out, state)
            number[node] = how_raised
            if how_raised == 3:
                put(out, state, 94)
                put(out, state, 40)
            elif how_raised == 4:
                put(out, state, 95)
            else:
                state[RAISED] = how_raised
        elif tag == _Q:
            flush(out, state, 0)
            put(out, state, 0x201C)
        elif tag == _PRE:
            state[PRE] += 1
            if state[PRE] == 1:
                number[node] = state[POS]
                fence, first, last = 0, 0, 0
                if how & FENCES and state[CELL] == 0:
                    fence, first, last = _fence(data, node, kind, parent, stop, lo, hi, drop, flags)
                if fence:
                    flush(out, state, 0)
                    for _ in range(fence):
                        put(out, state, 96)
                    copy(data, first, min(last, first + 20), out, state)
                    put(out, state, 10)
                    state[BREAKS] = state[SPACE] = 0
                fence_at = state[POS]
        elif tag == _TABLE and is_data[node] and how & PIPES and data_table < 0:
            data_table = node
            tables.start_table(row)
        elif data_table >= 0 and tag == _TR:
            tables.start_row(out, state, row)
        elif data_table >= 0 and (tag == _TD or tag == _TH):
            tables.start_cell(data, lo[node], hi[node], tag == _TH, out, state, row)
        if not kind[node] & names.VOID:
            stack[depth] = node
            depth += 1
        node += 1
