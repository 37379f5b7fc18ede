"""Lines of symbols and runs of line ends, taken out of a batch in one pass over its bytes."""

import functools
from typing import Any

import numpy as np

from raypt.kernels import kernel
from raypt.text.buffers import TextBatch
from raypt.text.hashing import U64
from raypt.text.unicode import IDEOGRAPH, LETTER, TABLE_SIZE, WHITE, classify, word_classes
from raypt.text.utf8 import ONE, character

BLANK, SYMBOL, CONTENT = range(3)
"""Kinds of characters: a line of SYMBOL, with or without BLANK, is a line of symbols."""
_NO_TABLE = np.empty(0, np.uint8)
_NO_TABLE.flags.writeable = False


@functools.cache
def content_table(symbols: str) -> np.ndarray:
    """uint8[TABLE_SIZE + 1]: the kind of each code point, and of those beyond that are no ideographs (which are
    CONTENT). `symbols`: those that count; empty: all but letters, numbers (Unicode L, N) and white space."""
    classes = word_classes()
    kinds = np.full(TABLE_SIZE + 1, CONTENT if symbols else SYMBOL, np.uint8)
    kinds[:TABLE_SIZE][(classes == LETTER) | (classes == IDEOGRAPH)] = CONTENT
    kinds[:TABLE_SIZE][classes == WHITE] = BLANK
    if not symbols:
        kinds[ord("_")] = SYMBOL
    kinds[[min(ord(c), TABLE_SIZE) for c in symbols]] = SYMBOL
    kinds.flags.writeable = False
    return kinds


@kernel
def _is_of_symbols(data: Any, start: Any, end: Any, kinds: Any, classes: Any) -> bool:
    """Whether data[start:end], a line without its end, has symbols and nothing but white space beside them."""
    i, found = U64(start), False
    while i < U64(end):
        code, width = character(data, i)
        i += ONE * U64(width)
        if code < TABLE_SIZE:
            kind = kinds[code]
        else:
            kind = CONTENT if classify(classes, code) == IDEOGRAPH else kinds[TABLE_SIZE]
        if kind == CONTENT:
            return False
        found |= kind == SYMBOL
    return found


@kernel
def _clean(
    data: Any, offsets: Any, kinds: Any, classes: Any, leave: int, most: int,
    out: Any, bounds: Any, lines: Any, symbol_bytes: Any, newline_bytes: Any,
) -> None:  # fmt: skip
    n = 0
    for doc in range(offsets.shape[0] - 1):
        i, end = offsets[doc], offsets[doc + 1]
        run, in_symbols = 0, False  # line ends written in a row; whether the line before was one of symbols
        while i < end:
            stop = i
            while stop < end and data[stop] != 0x0A:
                stop += 1
            after = min(stop + 1, end)
            text_end = stop - 1 if stop > i and stop < end and data[stop - 1] == 0x0D else stop
            if kinds.shape[0] and _is_of_symbols(data, i, text_end, kinds, classes):
                lines[doc] += 1
                symbol_bytes[doc] += after - i
                if not in_symbols:
                    for _ in range(leave):
                        if most == 0 or run < most:
                            out[n] = 0x0A
                            n += 1
                            run += 1
                            symbol_bytes[doc] -= 1
                in_symbols = True
                i = after
                continue
            in_symbols = False
            for k in range(i, text_end):
                out[n] = data[k]
                n += 1
            if text_end > i:
                run = 0
            if most == 0 or run < most:
                for k in range(text_end, after):
                    out[n] = data[k]
                    n += 1
                run += 1
            else:
                newline_bytes[doc] += after - text_end
            i = after
        bounds[doc + 1] = n


def clean_lines(
    text: TextBatch, kinds: np.ndarray | None, leave: int, newlines_max: int | None
) -> tuple[TextBatch, np.ndarray, np.ndarray, np.ndarray]:
    """(text, lines of symbols, bytes that they took, bytes of line ends that went), an int64[n] each.

    `kinds`: a `content_table`, None if lines of symbols stay; a run of them leaves `leave` (at most 2) line ends. At
    most `newlines_max` line ends stand in a row. A line ends with \\n or \\r\\n, and the end goes with its line.
    """
    assert 0 <= leave <= 2, "a run takes two bytes at least, or is the last of its document"
    n = len(text)
    out = np.empty(text.nbytes + 2 * n, np.uint8)
    bounds = np.zeros(n + 1, np.int64)
    lines, symbol_bytes, newline_bytes = (np.zeros(n, np.int64) for _ in range(3))
    table = _NO_TABLE if kinds is None else kinds
    _clean(
        text.data, text.offsets, table, word_classes(), leave, newlines_max or 0,
        out, bounds, lines, symbol_bytes, newline_bytes,
    )  # fmt: skip
    return TextBatch(out[: bounds[-1]], bounds), lines, symbol_bytes, newline_bytes
