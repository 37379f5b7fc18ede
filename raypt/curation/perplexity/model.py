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
BLOCK = 512
"""Tokens looked up together: what is known of them stays in a core's cache."""


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
            _keys(data, offsets, np.empty(n, np.uint64), keys)
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
        values, longest = self.slots.view(np.float32), int(np.diff(text.offsets).max(initial=0))
        room = BLOCK + longest + 3
        kinds = (np.uint64, np.uint64, np.int64, np.int64, np.int64, np.float32)
        work = [np.empty(room, kind) for kind in kinds]
        backoff = np.zeros((self.order, room), np.float32)
        _score(text.data, text.offsets, self.slots, values, self.order, special, log10, counts, *work, backoff)
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
def _keys(data, offsets, words, out):  # type: ignore[no-untyped-def]
    """Keys of n-grams: of all words, of all but the first (its end), of all but the last (its history). `words`: for
    work, as many as an n-gram has.
    """
    order = len(words)
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
def _score(  # type: ignore[no-untyped-def]
    data, offsets, slots, values, order, special, log10, counts, word, key, of, match, active, probability, backoff
):  # fmt: skip
    """log10[S] of every sentence, counts[S, 2]: its tokens with its end, and the unknown ones among them.

    For work, each with room for a block and a sentence more: words and keys of tokens; `of` which sentence a token is
    (-1: its beginning), `match` the words of the longest n-gram that ends there; tokens that are asked about; the
    probability, and `backoff` of the n-grams of one word, two words, ... that end there.

    A block of sentences is looked up order by order, and the slots of one order are first read without asking what is
    in them: so the processor has many reads from memory under way, where each question would wait for its own. What
    was read is returned, so that the reads are not left out.
    """
    s, sentences, read = 0, len(offsets) - 1, np.uint64(0)
    mask = np.uint64(len(slots) - 1)
    while s < sentences:
        t = 0
        while s < sentences and t < BLOCK:
            start, last = offsets[s], offsets[s + 1]
            if start < last:
                word[t], of[t] = special[0], -1
                t += 1
                for i in range(start, last + 1):
                    if i == last or data[i] == 0x20:
                        word[t], of[t] = hash_bytes(data, start, i), s
                        t += 1
                        start = i + 1
                word[t], of[t] = special[1], s
                t += 1
            s += 1
        for i in range(t):
            read ^= slots[(word[i] ^ (word[i] >> np.uint64(32))) & mask, 0]
        for i in range(t):
            match[i] = 1
            at = _slot(word[i], slots)
            if slots[at, 0] == np.uint64(0) and of[i] >= 0:
                counts[of[i], 1] += 1
                word[i] = special[2]
                at = _slot(word[i], slots)
            key[i] = word[i]
            if slots[at, 0] == np.uint64(0):
                probability[i], backoff[0, i] = UNKNOWN_PROBABILITY, 0.0
            else:
                probability[i], backoff[0, i] = values[at, 2], values[at, 3]
        count = 0
        for i in range(t):
            if of[i] >= 0:
                active[count] = i
                count += 1
        for n in range(2, order + 1):
            asked = 0
            for a in range(count):
                i = active[a]
                # an n-gram is there only if its history is; after the beginning of a sentence that is `<s>` alone
                if match[i - 1] >= n - 1:
                    key[i] = chain(key[i], word[i - n + 1])
                    read ^= slots[(key[i] ^ (key[i] >> np.uint64(32))) & mask, 0]
                    active[asked] = i
                    asked += 1
            count = 0
            for a in range(asked):
                i = active[a]
                at = _slot(key[i], slots)
                if slots[at, 0] != np.uint64(0):
                    probability[i], backoff[n - 1, i] = values[at, 2], values[at, 3]
                    match[i] = n
                    active[count] = i
                    count += 1
        for i in range(t):
            if of[i] >= 0:
                p = np.float64(probability[i])
                for k in range(match[i], min(match[i - 1], order - 1) + 1):
                    p += np.float64(backoff[k - 1, i - 1])
                log10[of[i]] += p
                counts[of[i], 0] += 1
    return read
