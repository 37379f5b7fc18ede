"""How often each word of byte-level BPE occurs in a text: what its merges are learned from (`bpe_learning`).

The words are those of `tokenizers` (`raypt.tokens.tokenizer.words`); a part of the text is counted by itself, and
counts are added up, so that no text travels to where the merges are learned.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raypt.kernels import kernel
from raypt.text.buffers import string_buffers
from raypt.text.hashing import FNV_BASIS, FNV_PRIME
from raypt.tokens.tokenizer.byte_level import CL100K, O200K, Splitting, character_classes
from raypt.tokens.tokenizer.words import cl100k_word, gpt2_word, o200k_word

U8: TypeAlias = npt.NDArray[np.uint8]
I64: TypeAlias = npt.NDArray[np.int64]

CHUNK_BYTES = 1 << 20
"""Of text between two looks at whether the table has room: all of it may be words of a byte that are new."""


@dataclass(frozen=True)
class WordCounts:
    """Different words, word i being the bytes `data[bounds[i]:bounds[i + 1]]`, which occurs `counts[i]` times."""

    data: U8
    bounds: I64
    counts: I64


@kernel
def _tally(data: U8, at: int, stop: int, more: int, slots: I64, pool: U8, bounds: I64, counts: I64, used: I64) -> None:
    """Count the word `data[at:stop]` `more` times; there is room for it. `used`: words that are there."""
    h = FNV_BASIS
    for i in range(at, stop):
        h = (h ^ np.uint64(data[i])) * FNV_PRIME
    mask = slots.size - 1
    slot = np.int64(h ^ (h >> np.uint64(32))) & mask
    length = stop - at
    while slots[slot] >= 0:
        word = slots[slot]
        start = bounds[word]
        if bounds[word + 1] - start == length:
            i = 0
            while i < length and pool[start + i] == data[at + i]:
                i += 1
            if i == length:
                counts[word] += more
                return
        slot = (slot + 1) & mask
    word = used[0]
    start = bounds[word]
    for i in range(length):
        pool[start + i] = data[at + i]
    bounds[word + 1] = start + length
    counts[word] = more
    slots[slot] = word
    used[0] += 1


@kernel
def _tally_text(
    data: U8, offsets: I64, classes: U8, family: int, max_digits: int, isolate_digits: bool, end_spaces: bool,
    contractions: bool, slots: I64, pool: U8, bounds: I64, counts: I64, used: I64,
) -> None:  # fmt: skip
    for document in range(offsets.size - 1):
        at, end = offsets[document], offsets[document + 1]
        while at < end:
            if family == CL100K:
                stop = cl100k_word(data, at, end, classes, max_digits, end_spaces)
            elif family == O200K:
                stop = o200k_word(data, at, end, classes, max_digits, contractions)
            else:
                stop = gpt2_word(data, at, end, classes, max_digits, isolate_digits)
            _tally(data, at, stop, 1, slots, pool, bounds, counts, used)
            at = stop


@kernel
def _tally_words(
    data: U8, ends: I64, times: I64, slots: I64, pool: U8, bounds: I64, counts: I64, used: I64
) -> None:  # fmt: skip
    for i in range(times.size):
        _tally(data, ends[i], ends[i + 1], times[i], slots, pool, bounds, counts, used)


class WordTable:
    """Counts as they grow."""

    def __init__(self) -> None:
        self._slots = np.empty(0, np.int64)
        self._pool, self._bounds, self._counts = np.empty(0, np.uint8), np.zeros(1, np.int64), np.empty(0, np.int64)
        self._used = np.zeros(1, np.int64)

    def add_text(self, text: pa.StringArray, splitting: Splitting) -> None:
        """Count the words of documents, none of which is null."""
        data, offsets = string_buffers(text)
        split: Any = splitting
        at, last = 0, offsets.size - 1
        while at < last:
            to = int(np.searchsorted(offsets, offsets[at] + CHUNK_BYTES, "right")) - 1
            to = min(max(to, at + 1), last)
            chunk = offsets[at : to + 1].astype(np.int64)
            size = int(chunk[-1] - chunk[0])
            self._make_room(size, size)
            _tally_text(
                _read_only(data), _read_only(chunk), character_classes(), split.family, split.max_digits,
                split.isolate_digits, split.end_spaces, split.contractions,
                self._slots, self._pool, self._bounds, self._counts, self._used,
            )  # fmt: skip
            at = to

    def add(self, more: WordCounts) -> None:
        """Count words that were counted elsewhere."""
        self._make_room(more.counts.size, more.data.size)
        found = (_read_only(more.data), _read_only(more.bounds), _read_only(more.counts))
        _tally_words(*found, self._slots, self._pool, self._bounds, self._counts, self._used)

    def counts(self) -> WordCounts:
        """What was counted."""
        n = int(self._used[0])
        bounds = self._bounds[: n + 1].copy()
        return WordCounts(self._pool[: bounds[-1]].copy(), bounds, self._counts[:n].copy())

    def _make_room(self, words: int, nbytes: int) -> None:
        """For so many words more, of so many bytes in all."""
        n = int(self._used[0])
        taken = int(self._bounds[n])
        if self._counts.size < n + words:
            grown = 2 * n + words
            self._counts = _longer(self._counts, grown)
            self._bounds = _longer(self._bounds, grown + 1)
        if self._pool.size < taken + nbytes:
            self._pool = _longer(self._pool, 2 * taken + nbytes)
        if self._slots.size < 2 * (n + words):
            self._slots = np.full(1 << (2 * (2 * n + words)).bit_length(), -1, np.int64)
            again = WordCounts(self._pool[:taken].copy(), self._bounds[: n + 1].copy(), self._counts[:n].copy())
            self._used[0] = 0
            found = (_read_only(again.data), _read_only(again.bounds), _read_only(again.counts))
            _tally_words(*found, self._slots, self._pool, self._bounds, self._counts, self._used)


def _longer(array: Any, size: int) -> Any:
    out = np.zeros(size, array.dtype)
    out[: array.size] = array
    return out


def _read_only(array: Any) -> Any:
    """Always: numba compiles a kernel anew for writable arrays."""
    view = array.view()
    view.flags.writeable = False
    return view


def summed(parts: Iterable[WordCounts]) -> WordCounts:
    """The counts of several texts together."""
    table = WordTable()
    for part in parts:
        table.add(part)
    return table.counts()
