"""Modified Kneser-Ney models of sentences (Kneser and Ney 1995; Chen and Goodman 1998), interpolated, as KenLM's
`lmplz` makes them (Heafield et al. 2013): `<s>` has no probability, unigrams are smoothed with the uniform
distribution, `<unk>` has its share, rare n-grams of order 3 and more give their mass to the back-off.

Counting is by sorting: an n-gram's number is that of (number of its history, last word). The model does not depend on
the order of the sentences.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt.curation.perplexity.sentences import Sentences
from raypt.kernels import kernel
from raypt.text.hashing import hash_bytes

_UNKNOWN, _BEGIN, _END, _FIRST = 0, 1, 2, 3
_FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where the counts of counts give none, as in a tiny or artificial text (lmplz --discount_fallback)."""
_NEVER = -99.0
"""log10 probability of `<s>`, by custom."""
PRUNED_FROM = 3
"""Lowest order whose rare n-grams are left out."""

Grams = list[tuple[pa.Array, np.ndarray, np.ndarray]]
"""By order: `(words, log10 probability, log10 back-off)`; see `arpa.write`."""


@dataclass(frozen=True)
class _Order:
    """The distinct n-grams of one order; arrays have one value an n-gram."""

    at: np.ndarray
    """Position of one occurrence."""
    count: np.ndarray
    history: np.ndarray
    """Number of the n-gram without its last word, in the order below."""
    end: np.ndarray
    """Number of the n-gram without its first word."""
    begins: np.ndarray
    """Whether its first word is `<s>`."""


def train(text: Sentences, order: int, min_count: int, max_tokens: int) -> Grams:
    """The model of the first `max_tokens` words of the sentences. n-grams of order 3 and more that occur less than
    `min_count` times are left out.

    Memory: about 150 bytes a word that is counted, beside the text.
    """
    word_T, left_T, words = _numbered(text, max_tokens)
    orders = _count(word_T, left_T, len(words), order)
    grams: Grams = []
    below = np.zeros(0)
    counts = [_adjusted(orders, n) for n in range(order)]
    backoffs: list[np.ndarray] = []
    kept: list[np.ndarray] = []
    probabilities: list[np.ndarray] = []
    for n, (this, count) in enumerate(zip(orders, counts, strict=True), 1):
        keep = this.count >= min_count if n >= PRUNED_FROM else np.ones(len(count), bool)
        discounted = np.maximum(count - _discounts(count)[np.minimum(count, 3)], 0.0)
        if n == 1:
            share = discounted / count.sum()
            below = share + (1.0 - share.sum()) / (len(count) - 1)  # <s> is no outcome
        else:
            total = np.bincount(this.history, count, len(orders[n - 2].count))
            share = discounted / total[this.history]
            left = 1.0 - np.bincount(this.history[keep], share[keep], len(total))
            left = np.where(total > 0, left, 1.0)
            backoffs.append(left)
            below = share + left[this.history] * below[this.end]
        kept.append(keep)
        probabilities.append(below)
    backoffs.append(np.ones(len(orders[-1].count)))
    for n, this in enumerate(orders, 1):
        keep = np.flatnonzero(kept[n - 1])
        log10 = np.log10(np.maximum(probabilities[n - 1][keep], 1e-99)).astype(np.float32)
        back = np.log10(np.maximum(backoffs[n - 1][keep], 1e-99)).astype(np.float32)
        if n == 1:
            log10[_BEGIN] = _NEVER
            names = words
        else:
            columns = [words.take(pa.array(word_T[this.at[keep] + k])) for k in range(n)]
            names = pc.binary_join_element_wise(*columns, pa.scalar(" ", pa.large_string()))
        grams.append((names, log10, back))
    return grams


def _numbered(text: Sentences, max_tokens: int) -> tuple[np.ndarray, np.ndarray, pa.Array]:
    """Each token's word, tokens that are left in its sentence with it, and the words by number."""
    most = int(np.count_nonzero(text.data == 0x20)) + 3 * len(text.document) + 1
    size = min(most, max_tokens + 3)
    hash_T, span_T, left_T = np.zeros(size, np.uint64), np.zeros((size, 2), np.int64), np.zeros(size, np.int32)
    tokens = int(_tokens(text.data, text.offsets, hash_T, span_T, left_T))
    hash_T, span_T, left_T = hash_T[:tokens], span_T[:tokens], left_T[:tokens]
    real = span_T[:, 0] >= 0
    _, first, inverse = np.unique(hash_T[real], return_index=True, return_inverse=True)
    word_T = -span_T[:, 0]  # <s> and </s> are there as their negative numbers
    word_T[real] = inverse + _FIRST
    spans = span_T[real][first]
    names = [text.data[start:end].tobytes().decode() for start, end in spans.tolist()]
    return word_T.astype(np.int64), left_T, pa.array(["<unk>", "<s>", "</s>", *names], pa.large_string())


@kernel
def _tokens(data, offsets, hashes, spans, left):  # type: ignore[no-untyped-def]
    """Tokens of whole sentences as long as there is room, each between `<s>` and `</s>`; their number."""
    t = 0
    for s in range(len(offsets) - 1):
        if offsets[s] == offsets[s + 1]:
            continue
        count = 3
        for i in range(offsets[s], offsets[s + 1]):
            count += data[i] == 0x20
        if t + count > len(hashes):
            break
        spans[t, 0], left[t] = -1, count
        start, k = offsets[s], 1
        for i in range(offsets[s], offsets[s + 1] + 1):
            if i == offsets[s + 1] or data[i] == 0x20:
                hashes[t + k] = hash_bytes(data, start, i)
                spans[t + k, 0], spans[t + k, 1], left[t + k] = start, i, count - k
                start = i + 1
                k += 1
        spans[t + k, 0], left[t + k] = -2, 1
        t += count
    return t


def _count(word_T: np.ndarray, left_T: np.ndarray, words: int, order: int) -> list[_Order]:
    number_T = word_T
    first = np.full(words, -1, np.int64)
    first[word_T[::-1]] = np.arange(len(word_T))[::-1]
    nothing = np.zeros(0, np.int64)
    out = [_Order(first, np.bincount(word_T, minlength=words), nothing, nothing, np.arange(words) == _BEGIN)]
    for n in range(2, order + 1):
        at = np.flatnonzero(left_T >= n)
        key = number_T[at].astype(np.uint64) * np.uint64(words) + word_T[at + n - 1].astype(np.uint64)
        _, one, inverse, count = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
        place = at[one]
        out.append(_Order(place, count, number_T[place], number_T[place + 1], word_T[place] == _BEGIN))
        number_T = np.zeros(len(word_T), np.int64)
        number_T[at] = inverse
    return out


def _adjusted(orders: list[_Order], n: int) -> np.ndarray:
    """int64 counts of the n-grams of order n + 1: of the highest order occurrences, else different words before it,
    occurrences again where `<s>` leaves none."""
    this = orders[n]
    if n == len(orders) - 1:
        count = this.count.copy()
    else:
        before = np.bincount(orders[n + 1].end, minlength=len(this.count))
        count = np.where(this.begins, this.count, before)
    if n == 0:
        count[[_UNKNOWN, _BEGIN]] = 0
    return count


def _discounts(count: np.ndarray) -> np.ndarray:
    """float64[4]: what is taken from counts of 0, 1, 2, and 3 or more."""
    n1, n2, n3, n4 = (int(np.count_nonzero(count == k)) for k in range(1, 5))
    if min(n1, n2, n3) > 0:
        y = n1 / (n1 + 2 * n2)
        found = [k - (k + 1) * y * b / a for k, a, b in ((1, n1, n2), (2, n2, n3), (3, n3, n4))]
        if all(0 <= d <= k for k, d in enumerate(found, 1)):
            return np.array([0.0, *found])
    return np.array([0.0, *_FALLBACK])
