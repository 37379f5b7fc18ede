"""fastText's answers for a model of languages, from tables of this process: each word's n-grams are looked up once.

A text's vector is the mean of the rows of its words' n-grams (Joulin et al., 2016; dictionary.cc, quantmatrix.cc,
loss.cc of fastText 0.9.3). fastText hashes, prunes and unpacks each n-gram of each word anew, which was half of
curation; here the sum of a word's rows is in a table once it was seen, and the weights are unpacked once. Sums are of
float32, of words first, seen or not: a text's scores depend on nothing else, and differ from fastText's by rounding.
"""

import math
import threading
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from raypt.curation.fasttext_weights import Weights
from raypt.curation.fasttext_words import FIRST, equal, find, hash_byte, hash_word, hash_words, insert
from raypt.kernels import kernel

U8: TypeAlias = npt.NDArray[np.uint8]
I32: TypeAlias = npt.NDArray[np.int32]
I64: TypeAlias = npt.NDArray[np.int64]
F32: TypeAlias = npt.NDArray[np.float32]

_KEPT_WORDS, _KEPT_BYTES, _KEPT_SUMS = 1 << 19, 8 << 20, 1 << 24
"""Of words that were seen, the bytes they are spelled with and the numbers of their sums: up to some 90 MB. What finds
no room is looked through anew each time."""
_LONGEST_KEPT = 64
_LABEL = np.frombuffer(b"__label__", np.uint8)
_EOS = np.frombuffer(b"</s>", np.uint8)


START, LENGTH, HASH, ROWS = range(4)
"""Columns of the words that were seen: where its bytes begin, how many they are, its hash, the rows in its sum."""


@kernel
def _slot(data: U8, at: int, length: int, h: np.uint32, slots: I32, seen: I32, pool: U8) -> Any:
    """The slot of a word: `slots[it]` is its number, or -1."""
    mask = np.int64(slots.size - 1)
    slot = np.int64(h) & mask
    while slots[slot] >= 0:
        word = slots[slot]
        if seen[word, HASH] == np.int32(h) and seen[word, LENGTH] == length:
            start = seen[word, START]
            i = 0
            while i < length and pool[start + i] == data[at + i]:
                i += 1
            if i == length:
                break
        slot = (slot + 1) & mask
    return slot


@kernel
def _add(row: F32, to: F32) -> None:
    for k in range(to.size):
        to[k] += row[k]


@kernel
def _add_ngrams(
    data: U8, at: int, end: int, buckets: int, minn: int, maxn: int, taken: U8, places: I32, n_words: int, rows: F32,
    to: F32,
) -> int:  # fmt: skip
    """Add the rows of the n-grams of `<word>` up; how many they are. `taken`: a bit a bucket, set if it has a place."""
    found, size = 0, end - at + 2
    start = np.uint32(2166136261)
    for i in range(size):
        if 0 < i < size - 1 and data[at + i - 1] & 0xC0 == 0x80:
            continue
        h, j, n = start, i, 1
        while j < size and n <= maxn:
            first = True
            while first or (0 < j < size - 1 and data[at + j - 1] & 0xC0 == 0x80):
                first = False
                b = np.uint32(0x3C) if j == 0 else np.uint32(0x3E) if j == size - 1 else np.uint32(data[at + j - 1])
                if b >= 128:
                    b |= np.uint32(0xFFFFFF00)
                h = np.uint32((h ^ b) * np.uint32(16777619))
                j += 1
            if n >= minn and not (n == 1 and (i == 0 or j == size)):
                bucket = np.int64(h) % buckets
                if taken[bucket >> 3] >> np.uint8(bucket & 7) & 1:
                    _add(rows[n_words + places[bucket]], to)
                    found += 1
            n += 1
    return found


@kernel
def _vectors(
    data: U8, offsets: I64, rows: F32, buckets: int, minn: int, maxn: int, taken: U8, places: I32, label: U8, eos: U8,
    word_slots: I32, word_bounds: I64, word_pool: U8, n_words: int,
    slots: I32, seen: I32, pool: U8, sums: F32, hidden: F32, counts: I64, used: I64,
) -> None:  # fmt: skip
    """Sum and number of rows of each line `data[offsets[i]:offsets[i + 1]]`, which ends where its first line feed is.
    `slots`, `seen`, `pool`, `sums`: the words that were seen, `used` (words, bytes) of them; the last sum is of any
    word that is not kept.
    """
    spare = sums.shape[0] - 1
    for d in range(offsets.size - 1):
        at, end, cut = offsets[d], offsets[d + 1], False
        total = hidden[d]
        while at < end:
            b = data[at]
            if b == 0x0A:
                break
            if b <= 0x20 and (b == 0x20 or 0x09 <= b <= 0x0D or b == 0):
                at += 1
                continue
            stop, h = at, FIRST
            while stop < end:
                b = data[stop]
                if b <= 0x20 and (b == 0x20 or 0x09 <= b <= 0x0D or b == 0):
                    break
                h = hash_byte(h, b)
                stop += 1
            slot = -1
            if stop - at <= _LONGEST_KEPT:
                slot = _slot(data, at, stop - at, h, slots, seen, pool)
                if slots[slot] >= 0:
                    _add(sums[slots[slot]], total)
                    counts[d] += seen[slots[slot], ROWS]
                    at = stop
                    continue
            word, size = used[0], stop - at
            kept = slot >= 0 and word < spare and used[1] + size <= pool.size
            own = sums[word if kept else spare]
            for k in range(own.size):
                own[k] = 0.0
            n = 0
            known = find(data, at, stop, h, word_pool, word_bounds, word_slots)
            ends_line = size == eos.size and equal(data, at, eos, 0, size)
            if known >= 0:
                _add(rows[known], own)
                n = 1
            is_label = known < 0 and size >= label.size and equal(data, at, label, 0, label.size)
            if not ends_line and not is_label:
                n += _add_ngrams(data, at, stop, buckets, minn, maxn, taken, places, n_words, rows, own)
            _add(own, total)
            counts[d] += n
            if ends_line:
                cut = True
                break
            if kept:
                for i in range(size):
                    pool[used[1] + i] = data[at + i]
                seen[word, START], seen[word, LENGTH] = used[1], size
                seen[word, HASH], seen[word, ROWS] = np.int32(h), n
                slots[slot] = word
                used[0] += 1
                used[1] += size
            at = stop
        if not cut and at < end:  # the end of the line is a word of its own
            known = find(eos, 0, eos.size, hash_word(eos, 0, eos.size), word_pool, word_bounds, word_slots)
            if known >= 0:
                _add(rows[known], total)
                counts[d] += 1


@kernel
def _std_log(x: np.float32) -> Any:
    return np.float32(math.log(np.float64(x) + 1e-5))


@kernel
def _dot(a: F32, b: F32) -> Any:
    out = np.float32(0.0)
    for k in range(a.size):
        out += a[k] * b[k]
    return out


@kernel
def _best_leaf(hidden: F32, output: F32, children: I32, scores: F32, open_nodes: I64, best: I64, score: F32) -> None:
    """Of labels that are the leaves of a tree; in float32 where fastText is, step by step, as its loss.cc is. What is
    less probable than a label that was found is not looked into. For work: `scores` and `open_nodes` of all nodes.
    """
    n = children.shape[0] + 1
    root = 2 * n - 2
    for d in range(hidden.shape[0]):
        first, most = np.int64(0), np.float32(-np.inf)
        scores[root], open_nodes[0], size = 0.0, root, 1
        while size:
            size -= 1
            node = open_nodes[size]
            if scores[node] < most:
                continue
            if node < n:
                if scores[node] > most or node < first:
                    first, most = node, scores[node]
                continue
            f = np.float32(1.0 / np.float64(np.float32(1.0) + math.exp(-_dot(output[node - n], hidden[d]))))
            left, right = np.int64(children[node - n, 0]), np.int64(children[node - n, 1])
            scores[left] = scores[node] + _std_log(np.float32(1.0 - np.float64(f)))
            scores[right] = scores[node] + _std_log(f)
            if scores[left] > scores[right]:  # the more probable one is looked into first
                left, right = right, left
            open_nodes[size], open_nodes[size + 1] = left, right
            size += 2
        best[d], score[d] = first, math.exp(most)


@kernel
def _best_of_softmax(hidden: F32, output: F32, p: F32, best: I64, score: F32) -> None:
    n = output.shape[0]
    for d in range(hidden.shape[0]):
        for i in range(n):
            p[i] = _dot(output[i], hidden[d])
        most, z = p[0], np.float32(0.0)
        for i in range(n):
            most = max(p[i], most)
        for i in range(n):
            p[i] = math.exp(p[i] - most)
            z += p[i]
        for i in range(n):
            p[i] = p[i] / z
        first = 0
        for i in range(1, n):
            if p[i] > p[first]:
                first = i
        best[d], score[d] = first, math.exp(_std_log(p[first]))


def _tree(counts: tuple[int, ...]) -> I32:
    """The left and right child of each inner node, which come behind the labels: int32[labels - 1, 2].

    fastText's `buildTree`: labels come by falling count, and the two least nodes of all are joined, again and again.
    """
    n = len(counts)
    size = [*counts, *([10**15] * (n - 1))]
    leaf, node = n - 1, n
    children: list[list[int]] = []
    for i in range(n, 2 * n - 1):
        pair = []
        for _ in range(2):
            if leaf >= 0 and size[leaf] < size[node]:
                pair.append(leaf)
                leaf -= 1
            else:
                pair.append(node)
                node += 1
        size[i] = size[pair[0]] + size[pair[1]]
        children.append(pair)
    return np.array(children, np.int32).reshape(-1, 2)


class LanguageModel:
    """The most probable label of texts, of a model's weights. Its table of words grows: one thread at a time."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        n = max(len(weights.words), 1)
        self._word_slots = np.full(1 << (4 * n).bit_length(), -1, np.int32)
        self._word_bounds = np.cumsum([0, *map(len, weights.words)]).astype(np.int64)
        self._word_pool = np.frombuffer(b"".join(weights.words) or b" ", np.uint8)
        if weights.words:
            insert(hash_words(self._word_pool, self._word_bounds), self._word_slots)
        self._taken = np.packbits(weights.places >= 0, bitorder="little")
        dimension = weights.rows.shape[1]
        kept = min(_KEPT_WORDS, _KEPT_SUMS // dimension)
        self._slots = np.full(1 << (4 * kept - 1).bit_length(), -1, np.int32)
        self._seen = np.empty((kept, 4), np.int32)
        self._pool = np.empty(_KEPT_BYTES, np.uint8)
        self._sums = np.empty((kept + 1, dimension), np.float32)
        self._used = np.zeros(2, np.int64)
        self._lock = threading.Lock()
        self._children = _tree(weights.label_counts) if weights.tree else None

    def best(self, lines: list[str]) -> tuple[list[str | None], npt.NDArray[np.float32]]:
        """(label, or None for a text without words; float32[n] its probability) of lines, each with its line feed."""
        w = self._weights
        raw = [line.encode() for line in lines]
        offsets = np.cumsum([0, *map(len, raw)]).astype(np.int64)
        hidden, counts = np.zeros((len(raw), w.rows.shape[1]), np.float32), np.zeros(len(raw), np.int64)
        data = np.frombuffer(b"".join(raw) or b" ", np.uint8)
        with self._lock:
            _vectors(
                data, offsets, w.rows, w.buckets, w.minn, w.maxn, self._taken, w.places, _LABEL, _EOS,
                self._word_slots, self._word_bounds, self._word_pool, len(w.words),
                self._slots, self._seen, self._pool, self._sums, hidden, counts, self._used,
            )  # fmt: skip
        hidden *= (1.0 / np.maximum(counts, 1)).astype(np.float32)[:, None]
        best, score = np.empty(len(raw), np.int64), np.empty(len(raw), np.float32)
        if self._children is None:
            _best_of_softmax(hidden, w.output, np.empty(len(w.output), np.float32), best, score)
        else:
            nodes = 2 * len(self._children) + 1
            work = np.empty(nodes, np.float32), np.empty(nodes, np.int64)
            _best_leaf(hidden, w.output, self._children, *work, best, score)
        labels = [w.labels[i] if n else None for i, n in zip(best.tolist(), counts.tolist(), strict=True)]
        return labels, np.where(counts > 0, np.minimum(score, np.float32(1.0)), np.float32(0.0))
