"""Text as a sequence of units that are compared byte for byte: tokens in their normal form, or bytes as they are.

The normal form of a text is its tokens (raypt.dedup.tokenise) in lower case, a space behind each: equal bytes of whole
units are equal tokens, and the hash of a token has no say.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from raypt.dedup.tokenise import tokenise
from raypt.kernels import kernel
from raypt.text.buffers import string_buffers
from raypt.text.unicode import IDEOGRAPH, LETTER, MARK, SEPARATOR, WHITE, classify, lower_case, lower_of, word_classes
from raypt.text.utf8 import character

Unit = Literal["token", "byte"]


@dataclass(frozen=True)
class Written:
    """The units of n documents: those of document d are [offsets[d], offsets[d + 1])."""

    data: np.ndarray
    """uint8: the normal forms, one behind the other."""
    bounds: np.ndarray
    """int64[units + 1]: unit u is data[bounds[u]:bounds[u + 1]]."""
    starts: np.ndarray
    """int64[units]: the byte of its document at which the unit begins."""
    stops: np.ndarray
    """int64[units]: and the byte behind it."""
    offsets: np.ndarray
    """int64[n + 1]"""


@kernel
def _put(out: Any, n: int, code: Any) -> int:
    """Write a code point as UTF-8 at `n`; the byte behind it."""
    if code < 0x80:
        out[n] = code
        return n + 1
    if code < 0x800:
        out[n] = 0xC0 | code >> 6
        out[n + 1] = 0x80 | code & 0x3F
        return n + 2
    if code < 0x10000:
        out[n] = 0xE0 | code >> 12
        out[n + 1] = 0x80 | code >> 6 & 0x3F
        out[n + 2] = 0x80 | code & 0x3F
        return n + 3
    out[n] = 0xF0 | code >> 18
    out[n + 1] = 0x80 | code >> 12 & 0x3F
    out[n + 2] = 0x80 | code >> 6 & 0x3F
    out[n + 3] = 0x80 | code & 0x3F
    return n + 4


@kernel
def _write(
    data: Any, texts: Any, classes: Any, lower: Any, out: Any, bounds: Any, starts: Any, stops: Any, offsets: Any
) -> None:
    n = units = 0
    for doc in range(texts.shape[0] - 1):
        begin, end = texts[doc], texts[doc + 1]
        i, state = begin, SEPARATOR
        while i < end:
            code, width = character(data, i)
            kind = classify(classes, code)
            if state != SEPARATOR and kind != MARK and not (kind == LETTER and state == LETTER):
                out[n] = 0x20
                n += 1
                stops[units] = i - begin
                units += 1
                bounds[units] = n
                state = SEPARATOR
            if kind in (LETTER, IDEOGRAPH):
                if state == SEPARATOR:
                    starts[units] = i - begin
                state = kind
                n = _put(out, n, np.int64(lower_of(lower, code)))
            elif kind == MARK and state != SEPARATOR:
                n = _put(out, n, np.int64(lower_of(lower, code)))
            i += width
        if state != SEPARATOR:
            out[n] = 0x20
            n += 1
            stops[units] = end - begin
            units += 1
            bounds[units] = n
        offsets[doc + 1] = units


def write_units(text: pa.Array | pa.ChunkedArray, unit: Unit) -> Written:
    """The units of n texts (memory: 26 bytes a byte of text at most for tokens, 24 for bytes)."""
    data, texts = string_buffers(text)
    size = int(texts[-1] - texts[0])
    if unit == "byte":
        places = np.arange(size + 1)
        within = places[:-1] - np.repeat(texts[:-1] - texts[0], np.diff(texts))
        return Written(data[texts[0] : texts[-1]], places, within, within + 1, texts - texts[0])
    most = size // 2 + len(texts)  # as in `tokenise`
    # Lower case is at most half as long again (two bytes become three), and a space is at most as long as its token.
    out, bounds = np.empty(2 * size + 1, np.uint8), np.zeros(most + 1, np.int64)
    starts, stops, offsets = np.empty(most, np.int64), np.empty(most, np.int64), np.zeros(len(texts), np.int64)
    _write(data, texts, word_classes(), lower_case(), out, bounds, starts, stops, offsets)
    n = offsets[-1]
    return Written(out[: bounds[n]], bounds[: n + 1], starts[:n], stops[:n], offsets)


def unit_values(text: pa.Array | pa.ChunkedArray, unit: Unit) -> tuple[np.ndarray, np.ndarray]:
    """(values, offsets int64[n + 1]): a number a unit, equal where units are: hashes uint64 of tokens, bytes uint8."""
    if unit == "token":
        tokens = tokenise(text)
        return tokens.hashes, tokens.offsets
    data, texts = string_buffers(text)
    return data[texts[0] : texts[-1]], texts - texts[0]


@kernel
def _cut_bytes(
    data: Any, texts: Any, classes: Any, rows: Any, firsts: Any, lasts: Any, starts: Any, stops: Any, offsets: Any
) -> None:
    """Units [firsts, lasts) of documents to bytes, in place."""
    for c in range(rows.shape[0]):
        doc, text = rows[c], texts[rows[c]]
        size = texts[doc + 1] - text
        start, stop = starts[offsets[doc] + firsts[c]], stops[offsets[doc] + lasts[c] - 1]
        end = starts[offsets[doc] + lasts[c]] if offsets[doc] + lasts[c] < offsets[doc + 1] else size
        spaced = False
        while stop < end:
            code, width = character(data, text + stop)
            white = classify(classes, code) == WHITE
            if spaced and not white:
                break
            spaced = white
            stop += width
        if stop == size:
            while start > 0 and data[text + start - 1] <= 0x20:
                start -= 1
        firsts[c], lasts[c] = start, stop


@kernel
def _whole_characters(data: Any, texts: Any, rows: Any, firsts: Any, lasts: Any) -> None:
    """Bytes [firsts, lasts) of documents without the parts of characters at both ends, in place."""
    for c in range(rows.shape[0]):
        text, size = texts[rows[c]], texts[rows[c] + 1] - texts[rows[c]]
        while firsts[c] < lasts[c] and data[text + firsts[c]] & 0xC0 == 0x80:
            firsts[c] += 1
        while firsts[c] < lasts[c] and lasts[c] < size and data[text + lasts[c]] & 0xC0 == 0x80:
            lasts[c] -= 1


def unit_cuts(
    text: pa.Array | pa.ChunkedArray, unit: Unit, rows: np.ndarray, firsts: np.ndarray, lasts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(starts, stops int64[cuts]) in bytes of the cuts of units [firsts, lasts) of the texts `rows`. Pure.

    With tokens goes the punctuation directly behind them, and the white space after that (before the cut, at the end
    of a text). Bytes that are a part of a character only are not cut.
    """
    data, texts = string_buffers(text)
    firsts, lasts = firsts.astype(np.int64), lasts.astype(np.int64)
    if unit == "byte":
        _whole_characters(data, texts, rows, firsts, lasts)
    else:
        written = write_units(text, unit)
        _cut_bytes(data, texts, word_classes(), rows, firsts, lasts, written.starts, written.stops, written.offsets)
    return firsts, lasts
