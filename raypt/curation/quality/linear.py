"""fastText classifiers without subwords, scored from the Arrow buffer: the same probabilities, many times faster.

Such a model is linear up to its last step: the logit of a label is the mean, over the words and word n-grams of a text,
of one number a feature. The numbers are multiplied out once (input matrix times output matrix), and scoring is hashing
and adding. Features are fastText's own: words looked up by their bytes, n-grams hashed into buckets by its functions.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from raypt.curation.fasttext_words import equal, find, hash_word, hash_words, insert
from raypt.kernels import allocating_kernel, inlined, kernel
from raypt.text.buffers import string_buffers

_CONTROLS = np.frombuffer(b"</s>__label__", np.uint8)
"""fastText's word for the end of a line, and the prefix of its labels."""
ADDED = 1e-5
"""fastText adds it to a probability before it takes the logarithm."""
MAX_LABELS = 16
"""With more labels the multiplied-out matrix would grow beyond the model."""


@kernel
def _modulo(h, n):  # type: ignore[no-untyped-def]  # pragma: no cover
    """h % n of a uint64 and a float64 below 2**40, by a multiplication: the quotient is off by one at most from 2,048
    on, below that by up to 2,048 / n, for a float64 has 53 bits of h.
    """
    m = np.uint64(n)
    rest = np.int64(h - np.uint64(np.float64(h) / n) * m)
    while rest < 0:
        rest += np.int64(m)
    while rest >= np.int64(m):
        rest -= np.int64(m)
    return rest


@inlined
def _sum(data, i, end, words, word_offsets, slots, controls, eos, weights, ngrams, buckets, running, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add the numbers of every feature of data[i:end] to `sums`; how many there are, and whether a word is known.
    `eos`: index and hash of the word for the end of a line."""
    n_words, width = len(word_offsets) - 1, weights.shape[1]
    for c in range(width):
        sums[c] = 0.0
    count, tokens, known = 0, 0, False
    last = False
    while not last:
        while i < end and (data[i] == 0x20 or 0x09 <= data[i] <= 0x0D or data[i] == 0):
            i += 1
        start = i
        if start == end:  # fastText reads the end of a line as a word
            h, word, last = eos[1], eos[0], True
        else:
            while i < end and not (data[i] == 0x20 or 0x09 <= data[i] <= 0x0D or data[i] == 0):
                i += 1
            h = hash_word(data, start, i)
            word = find(data, start, i, h, words, word_offsets, slots)
            last = i - start == 4 and equal(data, start, controls, 0, 4)
            if word < 0 and i - start >= len(controls) - 4 and equal(data, start, controls, 4, len(controls) - 4):
                continue  # a label is no word
        if word >= 0:
            for c in range(width):
                sums[c] += weights[word, c]
            count += 1
            known |= word != eos[0]
        signed = np.uint64(np.int64(np.int32(h)))
        for k in range(min(tokens, ngrams - 1)):
            running[k] = running[k] * np.uint64(116049371) + signed
            row = n_words + _modulo(running[k], buckets)
            for c in range(width):
                sums[c] += weights[row, c]
            count += 1
        for k in range(min(tokens, ngrams - 2), 0, -1):
            running[k] = running[k - 1]
        running[0] = signed
        tokens += 1
    return count, known


@allocating_kernel
def _score(data, offsets, words, word_offsets, slots, controls, weights, ngrams, buckets, out, known):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Probability of the label for each text; `weights` are the other labels' logits less its own."""
    sums = np.empty(weights.shape[1], np.float64)
    running = np.empty(max(ngrams, 1), np.uint64)
    h = hash_word(controls, 0, 4)
    eos = find(controls, 0, 4, h, words, word_offsets, slots), h
    for doc in range(len(offsets) - 1):
        count, known[doc] = _sum(
            data, offsets[doc], offsets[doc + 1], words, word_offsets, slots, controls, eos, weights, ngrams, buckets,
            running, sums,
        )  # fmt: skip
        total = 1.0
        for c in range(len(sums)):
            total += np.exp(sums[c] / max(count, 1))
        out[doc] = 1.0 / total + ADDED if count else 0.0


@allocating_kernel
def _mean(data, offsets, words, word_offsets, slots, controls, weights, ngrams, buckets, out, known):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The mean of the numbers of each text's features, into out[D, width]; NaN for a text without one."""
    sums = np.empty(weights.shape[1], np.float64)
    running = np.empty(max(ngrams, 1), np.uint64)
    h = hash_word(controls, 0, 4)
    eos = find(controls, 0, 4, h, words, word_offsets, slots), h
    for doc in range(len(offsets) - 1):
        count, known[doc] = _sum(
            data, offsets[doc], offsets[doc + 1], words, word_offsets, slots, controls, eos, weights, ngrams, buckets,
            running, sums,
        )  # fmt: skip
        for c in range(len(sums)):
            out[doc, c] = sums[c] / count if count else np.nan


def is_linear(model: Any) -> bool:
    """Whether a model is of this kind: softmax, no subwords, not quantised, valid UTF-8 words."""
    args = model.f.getArgs()
    if model.is_quantized() or args.maxn > 0 or "softmax" not in str(args.loss):
        return False
    try:
        model.get_words()
    except UnicodeDecodeError:
        return False
    return True


class _Features:
    """The words of a model and how its n-grams are hashed."""

    def __init__(self, model: Any) -> None:
        args = model.f.getArgs()
        words = [word.encode() for word in model.get_words(on_unicode_error="replace")]
        self._words = np.frombuffer(b"".join(words), np.uint8)
        self._offsets = np.concatenate([[0], np.cumsum([len(w) for w in words])]).astype(np.int64)
        self._slots = np.full(1 << max(4, (2 * len(words) - 1).bit_length()), -1, np.int32)
        insert(hash_words(self._words, self._offsets), self._slots)
        self._ngrams, self._buckets = args.wordNgrams, max(args.bucket, 1)
        self._rows = len(words) + (args.bucket if self._ngrams > 1 else 0)

    def run(self, over: Any, lines: pa.Array, weights: np.ndarray, out: np.ndarray, known: np.ndarray) -> None:
        """Run a kernel over texts; `weights` has a row a feature."""
        assert len(weights) == self._rows
        data, offsets = string_buffers(lines)
        table = (self._words, self._offsets, self._slots)
        over(data, offsets, *table, _CONTROLS, weights, self._ngrams, float(self._buckets), out, known)


class LinearScorer:
    """Scores normalised text as `fasttext.predict` does, for one label of one model."""

    def __init__(self, model: Any, label: str) -> None:
        """`model` must satisfy `supports`; `label` with its prefix."""
        own = model.get_labels().index(label)
        columns = model.get_output_matrix()
        others = np.delete(columns, own, axis=0) - columns[own]
        self._weights = np.ascontiguousarray(model.get_input_matrix() @ others.T, np.float32)
        self._features = _Features(model)

    @staticmethod
    def supports(model: Any) -> bool:
        """Whether a model is linear and has few labels."""
        return len(model.get_labels()) <= MAX_LABELS and is_linear(model)

    def score(self, lines: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """(float32[n], bool[n]) of a large_string array without nulls: the score, and whether a word is known. Without
        one the score is what the end of a line and untrained n-grams come to."""
        out, known = np.zeros(len(lines), np.float32), np.zeros(len(lines), bool)
        if len(lines):
            self._features.run(_score, lines, self._weights, out, known)
        return out, known


class LinearClassifier:
    """The probabilities of all labels of one linear model, as `fasttext.predict` gives them.

    Features are added up as vectors of the model or as logits, whichever has fewer numbers, so that many labels cost
    neither memory nor time a word.
    """

    def __init__(self, model: Any) -> None:
        """`model` must satisfy `is_linear`."""
        self._output = np.asarray(model.get_output_matrix(), np.float32)
        weights = model.get_input_matrix()
        self._multiplied = self._output.shape[0] < self._output.shape[1]
        if self._multiplied:
            weights = weights @ self._output.T
        self._weights = np.ascontiguousarray(weights, np.float32)
        self._features = _Features(model)

    def probabilities(self, lines: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """(float32[n, L], bool[n]) of a large_string array without nulls, L labels in the model's order: probabilities
        (NaN for a text without a feature), and whether a word is known."""
        labels = len(self._output)
        means, known = np.zeros((len(lines), self._weights.shape[1]), np.float32), np.zeros(len(lines), bool)
        if not len(lines):
            return np.zeros((0, labels), np.float32), known
        self._features.run(_mean, lines, self._weights, means, known)
        # einsum, not BLAS: whose sums depend on how many texts are multiplied together.
        logits = means if self._multiplied else np.einsum("nd,ld->nl", means, self._output)
        logits = logits - logits.max(axis=1, keepdims=True)
        p = np.exp(logits)
        p /= p.sum(axis=1, keepdims=True)
        return (p + np.float32(ADDED)).clip(max=1.0), known
