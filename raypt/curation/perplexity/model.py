"""Perplexity under a back-off n-gram model: all its n-grams in one hash table, and a kernel that looks them up.

An n-gram's key is the hash of its words from the last to the first, so that each longer history is one step of the hash
and one probe more (KenLM's "probing" model; Heafield 2011). 64-bit keys stand for the n-grams: of 10^8 n-grams, one
look-up in 10^11 takes a wrong one.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raypt.curation.perplexity import arpa
from raypt.curation.perplexity.sentences import Sentences
from raypt.kernels import inlined, kernel
from raypt.text.buffers import string_buffers
from raypt.text.hash_table import table_bits
from raypt.text.hashing import chain, hash_bytes

_BEGIN, _END, _UNKNOWN = "<s>", "</s>", "<unk>"
UNKNOWN_PROBABILITY = -100.0
"""log10 of a word that a model without <unk> does not know (KenLM's default)."""


@dataclass(frozen=True)
class Scores:
    """Of D documents: log10 probability float64[D], tokens int64[D] (a sentence's end is one), unknown int64[D]."""

    log10: np.ndarray
    tokens: np.ndarray
    unknown: np.ndarray

    @classmethod
    def of(cls, text: Sentences, documents: int, log10: np.ndarray, counts: np.ndarray) -> "Scores":
        """Of sentences: log10 probability float64[S]; int64[S, 2] tokens, and unknown ones among them."""
        return cls(
            np.bincount(text.document, log10, documents),
            np.bincount(text.document, counts[:, 0], documents).astype(np.int64),
            np.bincount(text.document, counts[:, 1], documents).astype(np.int64),
        )

    @property
    def perplexity(self) -> np.ndarray:
        """float64[D], a token; NaN for a document without words."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            values: np.ndarray = 10.0 ** np.where(self.tokens > 0, -self.log10 / self.tokens, np.nan)
        return values


@dataclass(frozen=True)
class NGramModel:
    """A model in memory: `slots` uint64[size, 2], a key and float32 log10 probability and back-off; 32 to 64 bytes an
    n-gram."""

    order: int
    slots: np.ndarray
    entries: int

    @classmethod
    def load(cls, uri: str) -> "NGramModel":
        """Of an ARPA file (`.arpa`, `.arpa.gz`). Some 1.5 million n-grams a second.

        Raises:
            arpa.MalformedArpa: it is none, or lacks the histories or the ends of n-grams that it has.
        """
        parts: list[tuple[int, Any, Any, np.ndarray]] = []
        order = 0
        for n, words, probability, backoff in arpa.read(uri):
            order = max(order, n)
            data, offsets = string_buffers(words)
            keys = np.empty((len(words), 3), np.uint64)
            _keys(data, offsets, n, keys)
            parts.append((n, words, keys, np.column_stack([probability, backoff]).astype(np.float32)))
        entries = sum(len(keys) for _, _, keys, _ in parts)
        slots = np.zeros((1 << int(table_bits(entries)), 2), np.uint64)
        for n, words, keys, values in parts:
            twice = int(_insert(slots, slots.view(np.float32), keys, values))
            if twice >= 0:
                raise arpa.MalformedArpa(f"it holds {words[twice].as_py()[:60]!r} twice")
            if n > 1:
                bad = int(_orphan(slots, keys))
                if bad >= 0:
                    raise arpa.MalformedArpa(
                        f"it holds {words[bad].as_py()[:60]!r}, but not the same without its first or its last word"
                    )
        return cls(order, slots, entries)

    def score(self, text: Sentences, documents: int) -> Scores:
        """Log probabilities of the sentences, summed over each of the `documents`. Empty sentences do not count."""
        count = len(text.document)
        log10, counts = np.zeros(count), np.zeros((count, 2), np.int64)
        special = np.array(_special(), np.uint64)
        _score(text.data, text.offsets, self.slots, self.slots.view(np.float32), self.order, special, log10, counts)
        return Scores.of(text, documents, log10, counts)


@functools.cache
def _special() -> tuple[int, int, int]:
    data, offsets = string_buffers(pa.array([_BEGIN, _END, _UNKNOWN]))
    begin, end, unknown = (int(hash_bytes(data, offsets[i], offsets[i + 1])) for i in range(3))
    return begin, end, unknown


@inlined
def _slot(key, slots):  # type: ignore[no-untyped-def]
    """The slot of a key, or the empty one where it would be."""
    mask = np.uint64(len(slots) - 1)
    at = (key ^ (key >> np.uint64(32))) & mask
    while slots[at, 0] != np.uint64(0) and slots[at, 0] != key:
        at = (at + np.uint64(1)) & mask
    return at


@kernel
def _keys(data, offsets, order, out):  # type: ignore[no-untyped-def]
    """Keys of n-grams: of all words, of all but the first (its end), of all but the last (its history)."""
    words = np.empty(order, np.uint64)
    for i in range(len(offsets) - 1):
        start = offsets[i]
        k = 0
        for at in range(offsets[i], offsets[i + 1] + 1):
            if at == offsets[i + 1] or data[at] == 0x20:
                words[k] = hash_bytes(data, start, at)
                k += 1
                start = at + 1
        key, end = words[order - 1], np.uint64(0)
        for k in range(order - 2, -1, -1):
            end = key
            key = chain(key, words[k])
        history = words[order - 2] if order > 1 else np.uint64(0)
        for k in range(order - 3, -1, -1):
            history = chain(history, words[k])
        out[i, 0], out[i, 1], out[i, 2] = key, end, history


@kernel
def _insert(slots, values_of, keys, values):  # type: ignore[no-untyped-def]
    """Put n-grams into the table; the row of one that is there already, or -1."""
    for i in range(len(keys)):
        at = _slot(keys[i, 0], slots)
        if slots[at, 0] != np.uint64(0):
            return i
        slots[at, 0] = keys[i, 0]
        values_of[at, 2], values_of[at, 3] = values[i, 0], values[i, 1]
    return -1


@kernel
def _orphan(slots, keys):  # type: ignore[no-untyped-def]
    """The first n-gram whose end or history is not in the table, or -1."""
    for i in range(len(keys)):
        if slots[_slot(keys[i, 1], slots), 0] == np.uint64(0) or slots[_slot(keys[i, 2], slots), 0] == np.uint64(0):
            return i
    return -1


@kernel
def _score(data, offsets, slots, values, order, special, log10, counts):  # type: ignore[no-untyped-def]
    """log10[S] of every sentence, counts[S, 2]: its tokens with its end, and the unknown ones among them."""
    history = np.empty(order + 1, np.uint64)  # the last word first
    backoff = np.empty(order + 1, np.float64)  # of the histories of one word, two words, ...
    found = np.empty(order + 1, np.float64)
    for s in range(len(offsets) - 1):
        if offsets[s] == offsets[s + 1]:
            continue
        history[0] = special[0]
        at = _slot(special[0], slots)
        backoff[0] = values[at, 3] if slots[at, 0] != np.uint64(0) else 0.0
        known = min(1, order - 1)
        total = 0.0
        start, i, last = offsets[s], offsets[s], offsets[s + 1]
        while start <= last + 1:
            if start == last + 1:
                word = special[1]
            else:
                while i < last and data[i] != 0x20:
                    i += 1
                word = hash_bytes(data, start, i)
            counts[s, 0] += 1
            start = i + 1
            i = start
            at = _slot(word, slots)
            if slots[at, 0] == np.uint64(0):
                counts[s, 1] += 1
                word = special[2]
                at = _slot(word, slots)
            if slots[at, 0] == np.uint64(0):
                p, found[0] = UNKNOWN_PROBABILITY, 0.0
            else:
                p, found[0] = np.float64(values[at, 2]), np.float64(values[at, 3])
            key, length = word, 1
            while length <= known:
                key = chain(key, history[length - 1])
                at = _slot(key, slots)
                if slots[at, 0] == np.uint64(0):
                    break
                p, found[length] = np.float64(values[at, 2]), np.float64(values[at, 3])
                length += 1
            for k in range(length - 1, known):
                p += backoff[k]
            total += p
            known = min(length, order - 1)
            for k in range(known - 1, 0, -1):
                history[k] = history[k - 1]
            history[0] = word
            for k in range(known):
                backoff[k] = found[k]
        log10[s] = total
