"""fastText classifiers without subwords, scored from the Arrow buffer: the same probabilities, many times faster.

Such a model is linear up to its last step: the logit of a label is the mean, over the words and word n-grams of a text,
of one number a feature. The numbers are multiplied out once (input matrix times output matrix), and scoring is hashing
and adding. Features are fastText's own: words looked up by their bytes, n-grams hashed into buckets by its functions.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from raypt.kernels import kernel
from raypt.text.buffers import string_buffers

_CONTROLS = np.frombuffer(b"</s>__label__", np.uint8)
"""fastText's word for the end of a line, and the prefix of its labels."""
MAX_LABELS = 16
"""With more labels the multiplied-out matrix would grow beyond the model."""


@kernel
def _insert(hashes, slots):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Fill the open-addressing table `slots` (-1: free) with word indices by their hash."""
    mask = len(slots) - 1
    for word in range(len(hashes)):
        at = np.int64(hashes[word]) & mask
        while slots[at] >= 0:
            at = (at + 1) & mask
        slots[at] = word


@kernel
def _hash(data, start, stop):  # type: ignore[no-untyped-def]  # pragma: no cover
    """fastText's 32-bit hash: FNV-1a over signed bytes."""
    h = np.uint32(2166136261)
    for i in range(start, stop):
        b = np.uint32(data[i])
        h = np.uint32((h ^ (b | np.uint32(0xFFFFFF00) if b >= 128 else b)) * np.uint32(16777619))
    return h


@kernel
def _hash_words(data, offsets):  # type: ignore[no-untyped-def]  # pragma: no cover
    out = np.empty(len(offsets) - 1, np.uint32)
    for word in range(len(offsets) - 1):
        out[word] = _hash(data, offsets[word], offsets[word + 1])
    return out


@kernel
def _modulo(h, n):  # type: ignore[no-untyped-def]  # pragma: no cover
    """h % n of a uint64 and a float64 below 2**40, by a multiplication: the quotient is off by one at most."""
    m = np.uint64(n)
    rest = np.int64(h - np.uint64(np.float64(h) / n) * m)
    if rest < 0:
        rest += np.int64(m)
    elif rest >= np.int64(m):
        rest -= np.int64(m)
    return rest


@kernel
def _equal(a, a_start, b, b_start, n):  # type: ignore[no-untyped-def]  # pragma: no cover
    k = 0
    while k < n and a[a_start + k] == b[b_start + k]:
        k += 1
    return k == n


@kernel
def _find(data, start, stop, h, words, offsets, slots):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Index of the word data[start:stop] with hash h, or -1."""
    mask = len(slots) - 1
    at = np.int64(h) & mask
    while slots[at] >= 0:
        word = slots[at]
        low = offsets[word]
        if offsets[word + 1] - low == stop - start and _equal(data, start, words, low, stop - start):
            return np.int64(word)
        at = (at + 1) & mask
    return np.int64(-1)


@kernel
def _score(data, offsets, words, word_offsets, slots, controls, weights, ngrams, buckets, out, known):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Probability of the label for each text; `weights` are the other labels' logits less its own."""
    n_words, n_labels = len(word_offsets) - 1, weights.shape[1]
    sums = np.empty(n_labels, np.float64)
    running = np.empty(max(ngrams, 1), np.uint64)
    eos_hash = _hash(controls, 0, 4)
    eos = _find(controls, 0, 4, eos_hash, words, word_offsets, slots)
    for doc in range(len(offsets) - 1):
        i, end = offsets[doc], offsets[doc + 1]
        for c in range(n_labels):
            sums[c] = 0.0
        count, tokens, known[doc] = 0, 0, False
        last = False
        while not last:
            while i < end and (data[i] == 0x20 or 0x09 <= data[i] <= 0x0D or data[i] == 0):
                i += 1
            start = i
            if start == end:  # fastText reads the end of a line as a word
                h, word, last = eos_hash, eos, True
            else:
                while i < end and not (data[i] == 0x20 or 0x09 <= data[i] <= 0x0D or data[i] == 0):
                    i += 1
                h = _hash(data, start, i)
                word = _find(data, start, i, h, words, word_offsets, slots)
                last = i - start == 4 and _equal(data, start, controls, 0, 4)
                if word < 0 and i - start >= len(controls) - 4 and _equal(data, start, controls, 4, len(controls) - 4):
                    continue  # a label is no word
            if word >= 0:
                for c in range(n_labels):
                    sums[c] += weights[word, c]
                count += 1
                known[doc] |= word != eos
            signed = np.uint64(np.int64(np.int32(h)))
            for k in range(min(tokens, ngrams - 1)):
                running[k] = running[k] * np.uint64(116049371) + signed
                row = n_words + _modulo(running[k], buckets)
                for c in range(n_labels):
                    sums[c] += weights[row, c]
                count += 1
            for k in range(min(tokens, ngrams - 2), 0, -1):
                running[k] = running[k - 1]
            running[0] = signed
            tokens += 1
        total = 1.0
        for c in range(n_labels):
            total += np.exp(sums[c] / max(count, 1))
        out[doc] = 1.0 / total + 1e-5 if count else 0.0  # fastText adds 1e-5 before it takes a logarithm


class LinearScorer:
    """Scores normalised text as `fasttext.predict` does, for one label of one model."""

    def __init__(self, model: Any, label: str) -> None:
        """`model` must satisfy `supports`; `label` with its prefix."""
        args = model.f.getArgs()
        words = [word.encode() for word in model.get_words(on_unicode_error="replace")]
        own = model.get_labels().index(label)
        self._words = np.frombuffer(b"".join(words), np.uint8)
        self._offsets = np.concatenate([[0], np.cumsum([len(w) for w in words])]).astype(np.int64)
        self._slots = np.full(1 << max(4, (2 * len(words) - 1).bit_length()), -1, np.int32)
        _insert(_hash_words(self._words, self._offsets), self._slots)
        columns = model.get_output_matrix()
        others = np.delete(columns, own, axis=0) - columns[own]
        self._weights = np.ascontiguousarray(model.get_input_matrix() @ others.T, np.float32)
        self._ngrams, self._buckets = args.wordNgrams, max(args.bucket, 1)
        assert len(self._weights) == len(words) + (args.bucket if self._ngrams > 1 else 0)

    @staticmethod
    def supports(model: Any) -> bool:
        """Whether a model is of this kind: softmax, no subwords, not quantised, few labels, valid UTF-8 words."""
        args = model.f.getArgs()
        few = len(model.get_labels()) <= MAX_LABELS
        if model.is_quantized() or args.maxn > 0 or "softmax" not in str(args.loss) or not few:
            return False
        try:
            model.get_words()
        except UnicodeDecodeError:
            return False
        return True

    def score(self, lines: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """(float32[n], bool[n]) of a large_string array without nulls: the score, and whether a word is known. Without
        one the score is what the end of a line and untrained n-grams come to."""
        out, known = np.zeros(len(lines), np.float32), np.zeros(len(lines), bool)
        if len(lines) == 0:
            return out, known
        data, offsets = string_buffers(lines)
        table = (self._words, self._offsets, self._slots)
        _score(data, offsets, *table, _CONTROLS, self._weights, self._ngrams, float(self._buckets), out, known)
        return out, known
