"""Text to sentences, lines or paragraphs, and to hashes of spans of them; Chinese, Japanese, Indic, Arabic included.

Splitting only has to be the same for the same text, so the rules are local and few: a line break ends a sentence; so
do the full stops of scripts without spaces (。！？), danda and the like; `.!?` do if white space follows, unless a `.`
comes after an initial ("J. Smith") or before a lower-case letter. Closing quotes and brackets stay with the sentence.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raypt.dedup.tokenise import tokenise
from raypt.kernels import kernel
from raypt.text.buffers import string_buffers
from raypt.text.hashing import U32, U64, murmur64
from raypt.text.unicode import LETTER, TABLE_SIZE, WHITE, classify, word_classes
from raypt.text.utf8 import ONE, decode

FULL_STOPS = "。！？｡．‼⁇⁈⁉।॥؟۔።፧။៕។"
"""End a sentence wherever they stand."""
WESTERN_STOPS = ".!?…"
"""End a sentence before white space."""
CLOSERS = "\"')]}»”’」』）】》〉〕］｣"
ORDINARY, NEWLINE, CLOSER, PERIOD, WESTERN_STOP, FULL_STOP = range(6)
SENTENCE, LINE, PARAGRAPH = range(3)
UNITS = {"sentence": SENTENCE, "line": LINE, "paragraph": PARAGRAPH}
UNIT_BASE = U64(0x9E3779B97F4A7C15)
SPAN_BASE_HIGH, SPAN_BASE_LOW = U64(0xD6E8FEB86659FD93), U64(0xA24BAED4963EE407)


@functools.cache
def _roles() -> np.ndarray:
    """uint8[TABLE_SIZE]: what a code point means to the splitter."""
    roles = np.zeros(TABLE_SIZE, np.uint8)
    by_role = {FULL_STOP: FULL_STOPS, WESTERN_STOP: WESTERN_STOPS, CLOSER: CLOSERS, NEWLINE: "\n\u2029"}
    for role, characters in by_role.items():
        roles[[ord(c) for c in characters]] = role
    roles[ord(".")] = PERIOD
    return roles


@functools.cache
def _lower_case_letters() -> np.ndarray:
    """bool[TABLE_SIZE]"""
    return np.array([chr(c).islower() for c in range(TABLE_SIZE)])


@kernel
def _split(data: Any, offsets: Any, mode: int, roles: Any, classes: Any, lower: Any, starts: Any, bounds: Any) -> None:
    n = 0
    for doc in range(offsets.shape[0] - 1):
        begin, end = U64(offsets[doc]), U64(offsets[doc + 1])
        i, stop, newlines, letters = begin, ORDINARY, 0, 0
        spaced, initial = False, False
        if begin < end:
            starts[n] = 0
            n += 1
        while i < end:
            code, width = U32(data[i]), ONE
            if code >= 0x80:
                code, wide = decode(data, i)
                width = U64(wide)
            role = roles[code] if code < TABLE_SIZE else ORDINARY
            kind = classify(classes, code)
            if kind == WHITE:
                newlines += role == NEWLINE
                spaced, letters = True, 0
                i += width
                continue
            if mode != SENTENCE:
                new = newlines >= mode
            elif newlines > 0:
                new = True
            elif stop == FULL_STOP:
                new = spaced or role < CLOSER
            elif stop == PERIOD:
                new = spaced and not initial and not (code < TABLE_SIZE and lower[code])
            else:
                new = spaced and stop == WESTERN_STOP
            if new and i > begin:
                starts[n] = i - begin
                n += 1
            if role == PERIOD:
                initial = letters == 1
            if role > CLOSER:
                stop = role
            elif new or role == ORDINARY:
                stop = ORDINARY
            letters = letters + 1 if kind == LETTER else 0
            newlines, spaced = 0, False
            i += width
        bounds[doc + 1] = n


def split(text: pa.Array | pa.ChunkedArray, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """(starts int64[units], offsets int64[n + 1]) of the units of n texts; `unit` is a key of UNITS.

    Starts are bytes in the text. A unit reaches to the start of the next: the white space between belongs to it. A
    paragraph ends at a blank line.
    """
    data, offsets = string_buffers(text)
    starts = np.empty(int(offsets[-1] - offsets[0]), np.int64)
    bounds = np.zeros(len(offsets), np.int64)
    _split(data, offsets, UNITS[unit], _roles(), word_classes(), _lower_case_letters(), starts, bounds)
    return starts[: bounds[-1]], bounds


@kernel
def _hash_units(
    hashes: Any, stops: Any, tokens: Any, starts: Any, units: Any, out: Any, firsts: Any, words: Any, bounds: Any
) -> None:
    n = 0
    for doc in range(units.shape[0] - 1):
        t, last = tokens[doc], tokens[doc + 1]
        opened = n
        for u in range(units[doc], units[doc + 1]):
            limit = starts[u + 1] if u + 1 < units[doc + 1] else np.int64(2**62)
            h, count = U64(0), 0
            while t < last and stops[t] <= limit:
                h = h * UNIT_BASE + hashes[t]
                t += 1
                count += 1
            if count > 0:
                out[n] = murmur64(h + U64(count))
                firsts[n] = starts[u] if n > opened else 0
                words[n] = count
                n += 1
        bounds[doc + 1] = n


@dataclass(frozen=True)
class Units:
    """The units with a word in them of n documents: those of document d are [offsets[d], offsets[d + 1])."""

    hashes: np.ndarray
    """uint64[units]: of the tokens of the unit."""
    starts: np.ndarray
    """int64[units]: the byte of its document at which the unit begins; it ends where the next begins."""
    words: np.ndarray
    """int64[units]: tokens in the unit."""
    offsets: np.ndarray
    """int64[n + 1]"""


def hash_units(text: pa.Array | pa.ChunkedArray, unit: str) -> Units:
    """The units of n texts that have a word.

    The hash is of the unit's tokens (raypt.dedup.tokenise): case, punctuation and white space do not matter. A unit
    without words ("* * *") is part of the one before it, at the beginning of the one after it.
    """
    tokens = tokenise(text, stops=True)
    starts, units = split(text, unit)
    hashes = np.empty(len(starts), np.uint64)
    firsts, words = np.empty(len(starts), np.int64), np.empty(len(starts), np.int64)
    bounds = np.zeros(len(units), np.int64)
    _hash_units(tokens.hashes, tokens.stops, tokens.offsets, starts, units, hashes, firsts, words, bounds)
    n = bounds[-1]
    return Units(hashes[:n], firsts[:n], words[:n], bounds)


@kernel
def _hash_spans(hashes: Any, offsets: Any, length: int, high: Any, low: Any, docs: Any, units: Any) -> int:
    n = 0
    for doc in range(offsets.shape[0] - 1):
        for first in range(offsets[doc], offsets[doc + 1] - length + 1):
            a = b = U64(0)
            for u in range(first, first + length):
                a = murmur64(a ^ hashes[u]) + SPAN_BASE_HIGH
                b = murmur64(b + hashes[u] * SPAN_BASE_LOW) ^ SPAN_BASE_LOW
            high[n], low[n] = murmur64(a), murmur64(b)
            docs[n], units[n] = doc, first - offsets[doc]
            n += 1
    return n


def hash_spans(hashes: np.ndarray, offsets: np.ndarray, length: int) -> tuple[np.ndarray, ...]:
    """(high, low uint64, document, unit int64) of each span of `length` consecutive units of a document."""
    size = len(hashes)
    high, low = np.empty(size, np.uint64), np.empty(size, np.uint64)
    docs, units = np.empty(size, np.int64), np.empty(size, np.int64)
    n = _hash_spans(hashes, offsets, length, high, low, docs, units)
    return high[:n], low[:n], docs[:n], units[:n]
