"""Tables: which ones are data, and their rows as lines of cells between pipes."""

import numpy as np

from raypt.corpus.html import names
from raypt.corpus.html.lines import BREAKS, CELL, MARKER, POS, SPACE, put
from raypt.corpus.html.marks import number_attribute
from raypt.corpus.html.weigh import KEPT
from raypt.kernels import kernel

MAX_CELL_MASS = 600
"""A table with a cell of more text is layout."""
MAX_SPAN = 32

COLUMN, ROW_START, ROW_HEADS, HEADED, SPAN, ROWS_LEFT = range(6)
ROW_STATE = ROWS_LEFT + MAX_SPAN
"""Entries of a row's state: the column, where the row begins, whether all its cells are heads, whether the head has
been underlined, columns of the cell; then, a column, the rows that a cell above still spans."""

_TAG = names.TAG_MASK
_TABLE, _TR, _TH, _TD, _THEAD, _PRE, _FORM = names.numbers("table tr th td thead pre form")
_COLSPAN, _ROWSPAN = (np.uint64(names.name_hash(n)) for n in ("colspan", "rowspan"))


@kernel
def find_data_tables(count, kind, parent, drop, chars, is_data, table_of, cells):  # type: ignore[no-untyped-def]
    """is_data uint8[count]: 1 for the tables that hold data: two columns and two rows or more, or a head; no table,
    code or heading in a cell, no cell as long as a page. Scratch: table_of, cells int32[count]."""
    for node in range(count):
        up = parent[node]
        tag = kind[node] & _TAG
        is_data[node], cells[node] = 0, 0
        table_of[node] = table_of[up] if up >= 0 else -1
        if drop[node] != KEPT or tag == names.TEXT:
            continue
        outer = table_of[node]
        if tag == _TABLE:
            if outer >= 0:
                is_data[outer] = 2
            table_of[node] = node
        elif outer >= 0:
            if tag == _TD or tag == _TH:
                cells[up] += 1
                if cells[up] == 2:
                    cells[outer] += 1
                if cells[outer] > 0 and (tag == _TH or cells[outer] > 1) and is_data[outer] == 0:
                    is_data[outer] = 1
                if chars[node] > MAX_CELL_MASS:
                    is_data[outer] = 2
            elif tag == _PRE or tag == _FORM or kind[node] & names.HEADING:
                is_data[outer] = 2
    for node in range(count):
        if is_data[node] == 2:
            is_data[node] = 0


@kernel
def start_table(row):  # type: ignore[no-untyped-def]
    for i in range(len(row)):
        row[i] = 0


@kernel
def start_row(out, state, row):  # type: ignore[no-untyped-def]
    state[BREAKS] = max(state[BREAKS], 1)
    state[MARKER] = 0
    if state[POS] > 0:
        for _ in range((1 if row[HEADED] else min(state[BREAKS], 2)) - (1 if out[state[POS] - 1] == 10 else 0)):
            put(out, state, 10)
    state[BREAKS] = state[SPACE] = 0
    row[COLUMN], row[ROW_START], row[ROW_HEADS] = 0, state[POS], 1


@kernel
def _bar(out, state):  # type: ignore[no-untyped-def]
    if state[POS] and out[state[POS] - 1] != 10 and out[state[POS] - 1] != 32:
        put(out, state, 32)
    put(out, state, 124)
    put(out, state, 32)


@kernel
def _skip_spanned(out, state, row):  # type: ignore[no-untyped-def]
    """An empty cell for each column that a cell of a row above spans."""
    while row[COLUMN] < MAX_SPAN and row[ROWS_LEFT + row[COLUMN]] > 0:
        row[ROWS_LEFT + row[COLUMN]] -= 1
        _bar(out, state)
        row[COLUMN] += 1


@kernel
def start_cell(data, lo, hi, is_head, out, state, row):  # type: ignore[no-untyped-def]
    _skip_spanned(out, state, row)
    rows = min(max(number_attribute(data, lo, hi, _ROWSPAN, 1), 1), 1000)
    row[SPAN] = min(max(number_attribute(data, lo, hi, _COLSPAN, 1), 1), MAX_SPAN)
    for column in range(row[COLUMN], min(row[COLUMN] + row[SPAN], MAX_SPAN)):
        row[ROWS_LEFT + column] = rows - 1
    row[COLUMN] += row[SPAN]
    _bar(out, state)
    state[BREAKS] = state[SPACE] = 0
    state[CELL] = 1
    if not is_head:
        row[ROW_HEADS] = 0


@kernel
def end_cell(out, state, row):  # type: ignore[no-untyped-def]
    state[CELL] = 0
    state[BREAKS] = state[SPACE] = state[MARKER] = 0
    for _ in range(row[SPAN] - 1):
        _bar(out, state)


@kernel
def end_row(in_head, out, state, row):  # type: ignore[no-untyped-def]
    """Close the line; a row without text leaves none. A first row of heads is underlined."""
    _skip_spanned(out, state, row)
    empty = True
    for i in range(row[ROW_START], state[POS]):
        if out[i] != 32 and out[i] != 124:
            empty = False
            break
    if empty:
        state[POS] = row[ROW_START]
        state[BREAKS] = 1
        return
    _bar(out, state)
    state[POS] -= 1
    if (in_head or row[ROW_HEADS]) and row[HEADED] == 0:
        row[HEADED] = 1
        put(out, state, 10)
        for _ in range(row[COLUMN]):
            put(out, state, 124)
            put(out, state, 32)
            for _ in range(3):
                put(out, state, 45)
            put(out, state, 32)
        put(out, state, 124)
    else:
        row[HEADED] = 1
    state[BREAKS] = 1
