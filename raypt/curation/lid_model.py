"""fastText's answers for a model of languages, from tables of this process: each word's n-grams are looked up once.

A text's vector is the mean of the rows of its words' n-grams (Joulin et al., 2016; dictionary.cc, quantmatrix.cc,
loss.cc of fastText 0.9.3). fastText hashes, prunes and unpacks each n-gram of each word anew, which was half of
curation; here the rows of a word that was seen are a list in a table, and the weights are unpacked once. Sums are of
float32 and in fastText's order, so scores differ from its own by what its compiler makes of a product and a sum.
"""

import math
import threading
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from raypt.curation.fasttext_weights import Weights
from raypt.curation.fasttext_words import equal, find, hash_word, hash_words, insert
from raypt.kernels import allocating_kernel, kernel

U8: TypeAlias = npt.NDArray[np.uint8]
I32: TypeAlias = npt.NDArray[np.int32]
I64: TypeAlias = npt.NDArray[np.int64]
F32: TypeAlias = npt.NDArray[np.float32]

_KEPT_WORDS, _KEPT_BYTES, _KEPT_ROWS = 1 << 19, 8 << 20, 8 << 20
"""Of words that were seen: some 60 MB. What is full takes no more, and is looked through anew each time."""
_LONGEST_KEPT = 64
_LABEL = np.frombuffer(b"__label__", np.uint8)
_EOS = np.frombuffer(b"</s>", np.uint8)


@kernel
def _slot(data: U8, at: int, end: int, h: np.uint32, slots: I32, bounds: I64, pool: U8) -> Any:
    """The slot of a word: `slots[it]` is its number, or -1."""
    mask = np.int64(slots.size - 1)
    slot = np.int64(h) & mask
    while slots[slot] >= 0:
        start = bounds[slots[slot]]
        if bounds[slots[slot] + 1] - start == end - at:
            i = 0
            while i < end - at and pool[start + i] == data[at + i]:
                i += 1
            if i == end - at:
                break
        slot = (slot + 1) & mask
    return slot


@kernel
def _ngrams(
    data: U8, at: int, end: int, buckets: int, minn: int, maxn: int, places: I32, n_words: int, out: I32, found: int
) -> int:
    """Rows of the n-grams of `<word>` into `out` behind the `found` there are, with room for `maxn` a byte; how many
    there are then.
    """
    size = end - at + 2
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
                place = places[np.int64(h) % buckets]
                if place >= 0:
                    out[found] = n_words + place
                    found += 1
            n += 1
    return found


@kernel
def _add(hidden: F32, d: int, rows: F32, ids: I32, start: int, n: int) -> None:
    for i in range(start, start + n):
        row = ids[i]
        for k in range(rows.shape[1]):
            hidden[d, k] += rows[row, k]


@allocating_kernel
def _vectors(
    data: U8, offsets: I64, rows: F32, buckets: int, minn: int, maxn: int, places: I32, label: U8, eos: U8,
    word_slots: I32, word_bounds: I64, word_pool: U8, n_words: int,
    slots: I32, bounds: I64, pool: U8, lists: I64, ids: I32, used: I64, hidden: F32, counts: I64,
) -> None:  # fmt: skip
    """Sum and number of rows of each line `data[offsets[i]:offsets[i + 1]]`, which ends where its first line feed is.
    `slots`, `bounds`, `pool`, `lists` (first id, ids), `ids`: the words that were seen; `used`: words, ids.
    """
    work = np.empty(1 << 10, np.int32)
    for d in range(offsets.size - 1):
        at, end, cut = offsets[d], offsets[d + 1], False
        while at < end:
            b = data[at]
            if b == 0x0A:
                break
            if b == 0x20 or 0x09 <= b <= 0x0D or b == 0:
                at += 1
                continue
            stop = at
            while stop < end:
                b = data[stop]
                if b == 0x20 or 0x09 <= b <= 0x0D or b == 0:
                    break
                stop += 1
            h = hash_word(data, at, stop)
            slot = -1
            if stop - at <= _LONGEST_KEPT:
                slot = _slot(data, at, stop, h, slots, bounds, pool)
                if slots[slot] >= 0:
                    word = slots[slot]
                    _add(hidden, d, rows, ids, lists[word, 0], lists[word, 1])
                    counts[d] += lists[word, 1]
                    at = stop
                    continue
            known = find(data, at, stop, h, word_pool, word_bounds, word_slots)
            ends_line = stop - at == eos.size and equal(data, at, eos, 0, eos.size)
            if work.size < (stop - at + 2) * maxn + 1:
                work = np.empty(2 * ((stop - at + 2) * maxn + 1), np.int32)
            n = 0
            if known >= 0:
                work[0] = known
                n = 1
            is_label = known < 0 and stop - at >= label.size and equal(data, at, label, 0, label.size)
            if not ends_line and not is_label:
                n = _ngrams(data, at, stop, buckets, minn, maxn, places, n_words, work, n)
            _add(hidden, d, rows, work, 0, n)
            counts[d] += n
            if ends_line:
                cut = True
                break
            if slot >= 0 and used[0] < lists.shape[0] and used[1] + n <= ids.size:
                word = used[0]
                begins = bounds[word]
                if begins + stop - at <= pool.size:
                    for i in range(stop - at):
                        pool[begins + i] = data[at + i]
                    bounds[word + 1] = begins + stop - at
                    lists[word, 0], lists[word, 1] = used[1], n
                    for i in range(n):
                        ids[used[1] + i] = work[i]
                    slots[slot] = word
                    used[0] += 1
                    used[1] += n
            at = stop
        if not cut and at < end:  # the end of the line is a word of its own
            known = find(eos, 0, eos.size, hash_word(eos, 0, eos.size), word_pool, word_bounds, word_slots)
            if known >= 0:
                for k in range(rows.shape[1]):
                    hidden[d, k] += rows[known, k]
                counts[d] += 1


@kernel
def _std_log(x: np.float32) -> Any:
    return np.float32(math.log(np.float64(x) + 1e-5))


@kernel
def _dot(output: F32, row: int, hidden: F32, d: int) -> Any:
    out = np.float32(0.0)
    for k in range(output.shape[1]):
        out += output[row, k] * hidden[d, k]
    return out


@allocating_kernel
def _best_leaf(hidden: F32, output: F32, children: I32, best: I64, score: F32) -> None:
    """Of labels that are the leaves of a tree; in float32 where fastText is, step by step, as its loss.cc is."""
    n = children.shape[0] + 1
    scores = np.empty(2 * n - 1, np.float32)
    for d in range(hidden.shape[0]):
        scores[2 * n - 2] = 0.0
        for node in range(2 * n - 2, n - 1, -1):
            f = np.float32(1.0 / np.float64(np.float32(1.0) + math.exp(-_dot(output, node - n, hidden, d))))
            scores[children[node - n, 0]] = scores[node] + _std_log(np.float32(1.0 - np.float64(f)))
            scores[children[node - n, 1]] = scores[node] + _std_log(f)
        first = 0
        for i in range(1, n):
            if scores[i] > scores[first]:
                first = i
        best[d], score[d] = first, math.exp(scores[first])


@allocating_kernel
def _best_of_softmax(hidden: F32, output: F32, best: I64, score: F32) -> None:
    n = output.shape[0]
    p = np.empty(n, np.float32)
    for d in range(hidden.shape[0]):
        for i in range(n):
            p[i] = _dot(output, i, hidden, d)
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
        self._slots = np.full(4 * _KEPT_WORDS, -1, np.int32)
        self._bounds = np.zeros(_KEPT_WORDS + 1, np.int64)
        self._pool = np.empty(_KEPT_BYTES, np.uint8)
        self._lists = np.empty((_KEPT_WORDS, 2), np.int64)
        self._ids = np.empty(_KEPT_ROWS, np.int32)
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
                data, offsets, w.rows, w.buckets, w.minn, w.maxn, w.places, _LABEL, _EOS,
                self._word_slots, self._word_bounds, self._word_pool, len(w.words),
                self._slots, self._bounds, self._pool, self._lists, self._ids, self._used, hidden, counts,
            )  # fmt: skip
        hidden *= (1.0 / np.maximum(counts, 1)).astype(np.float32)[:, None]
        best, score = np.empty(len(raw), np.int64), np.empty(len(raw), np.float32)
        if self._children is None:
            _best_of_softmax(hidden, w.output, best, score)
        else:
            _best_leaf(hidden, w.output, self._children, best, score)
        labels = [w.labels[i] if n else None for i, n in zip(best.tolist(), counts.tolist(), strict=True)]
        return labels, np.where(counts > 0, np.minimum(score, np.float32(1.0)), np.float32(0.0))
