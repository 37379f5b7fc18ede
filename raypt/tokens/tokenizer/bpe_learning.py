"""The merges of byte-level BPE, learned from how often words occur: Sennrich et al., 2016, as `tokenizers` does it.

The result is that of Hugging Face `tokenizers`' BpeTrainer, tested against it, in less time: words are counted by
kernels (`bpe_words`), and merged once however often they occur. The most frequent pair merges first, of equals the one
of lower ids. Also its accidents are kept: the count of a pair stays after it has merged, and a pair that comes about
again (as its token did in another way) merges again, with the rank of the last time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from raypt.kernels import allocating_kernel, kernel
from raypt.text.hashing import FNV_BASIS, FNV_PRIME, spread
from raypt.tokens.tokenizer.bpe_words import WordCounts
from raypt.tokens.tokenizer.byte_level import characters_of_bytes

U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]

MOST_COUNTED = (1 << 31) - 1
"""Occurrences of a pair, which `tokenizers` counts in 32 bits: no more text than this is learned from here."""


@dataclass(frozen=True)
class Learned:
    """What a tokenizer is made of."""

    vocabulary: dict[str, int]
    merges: list[tuple[str, str]]


KEY, COUNT, HEAD, LAST = 0, 1, 2, 3
"""Columns of the table of pairs, a cache line for two: left id << 32 | right id (-1: free), occurrences, the list of
words of the round at hand, and the last word on it."""
WORD, NEXT = 0, 1
"""Columns of the lists of words."""


@allocating_kernel
def _grown(rows: I64) -> I64:
    # By loops, here and below: a slice that is assigned takes numba half a second to compile.
    out = np.empty((2 * rows.shape[0], rows.shape[1]), np.int64)
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            out[i, j] = rows[i, j]
    return out


@allocating_kernel
def _free(size: int) -> I64:
    """A table of pairs without any."""
    out = np.empty((size, 4), np.int64)
    for i in range(size):
        out[i, KEY] = -1
    return out


@kernel
def _row(key: int, pairs: I64) -> Any:
    """Where a pair is, or would be."""
    mask = np.uint64(pairs.shape[0] - 1)
    at = spread(np.uint64(key)) & mask
    while pairs[at, KEY] != key and pairs[at, KEY] >= 0:
        at = (at + np.uint64(1)) & mask
    return np.int64(at)


@allocating_kernel
def _rehashed(pairs: I64) -> I64:
    out = _free(2 * pairs.shape[0])
    for i in range(pairs.shape[0]):
        if pairs[i, KEY] >= 0:
            row = _row(pairs[i, KEY], out)
            for j in range(4):
                out[row, j] = pairs[i, j]
    return out


@kernel
def _before(heap: I64, a: int, b: int) -> Any:
    """Whether an entry (count, pair, list of words) of the heap merges before another."""
    return heap[a, 0] > heap[b, 0] or (heap[a, 0] == heap[b, 0] and heap[a, 1] < heap[b, 1])


@kernel
def _swap(heap: I64, a: int, b: int) -> None:
    for i in range(3):
        kept = heap[a, i]
        heap[a, i] = heap[b, i]
        heap[b, i] = kept


@kernel
def _up(heap: I64, at: int) -> None:
    while at > 0 and _before(heap, at, (at - 1) >> 1):
        _swap(heap, at, (at - 1) >> 1)
        at = (at - 1) >> 1


@kernel
def _down(heap: I64, size: int) -> None:
    """The first has become less."""
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and _before(heap, child + 1, child):
            child += 1
        if not _before(heap, child, at):
            break
        _swap(heap, child, at)
        at = child


@kernel
def _token(data: U8, start: int, length: int, slots: I64, tokens: I64, pool: U8) -> Any:
    """The slot of a token by its bytes; `slots[it]` is its id, or -1. `tokens`: where each begins in `pool`, and how
    many bytes it has.
    """
    h = FNV_BASIS
    for i in range(start, start + length):
        h = (h ^ np.uint64(data[i])) * FNV_PRIME
    mask = slots.size - 1
    at = np.int64(h ^ (h >> np.uint64(32))) & mask
    while slots[at] >= 0:
        token = slots[at]
        if tokens[token, 1] == length:
            i = 0
            while i < length and pool[tokens[token, 0] + i] == data[start + i]:
                i += 1
            if i == length:
                return at
        at = (at + 1) & mask
    return at


@allocating_kernel
def _longer(data: U8, more: int) -> U8:
    """With room for so many bytes more, and as much again."""
    out = np.empty(2 * (data.size + more), np.uint8)
    for i in range(data.size):
        out[i] = data[i]
    return out


@kernel
def _merge(ids: U32, start: int, n: int, pair: I64, changed: I64, change: I64) -> Any:
    """Merge `pair` (left, right, token) in the word `ids[start:start + n]`: (ids left, pairs whose number changed)."""
    left, right, token = pair[0], pair[1], pair[2]
    out, i, end, n_changes = start, start, start + n, 0
    while i < end:
        if ids[i] == left and i + 1 < end and ids[i + 1] == right:
            if out > start:
                before = np.int64(ids[out - 1]) << 32
                changed[n_changes], change[n_changes] = before | left, -1
                changed[n_changes + 1], change[n_changes + 1] = before | token, 1
                n_changes += 2
            if i + 2 < end:
                after = np.int64(ids[i + 2])
                changed[n_changes], change[n_changes] = right << 32 | after, -1
                changed[n_changes + 1], change[n_changes + 1] = token << 32 | after, 1
                n_changes += 2
            ids[out] = token
            i += 2
        else:
            ids[out] = ids[i]
            i += 1
        out += 1
    return out - start, n_changes


@kernel
def _words_of_round(
    at_word: int, first_round: bool, most: int, pair: I64, ids: U32, words: I64, pairs: I64, listed: I64, touched: I64,
    numbers: I64, changed: I64, change: I64,
) -> Any:  # fmt: skip
    """The words of a round from `at_word` on: all of them at first, then those of the list of the pair that merges.
    Ends with -1, or before a word that may want more room than there is; `most`: the pairs that one can change, however
    long it is. `numbers`: of pairs, listed and touched.
    """
    n_pairs, n_listed, n_touched = numbers[0], numbers[1], numbers[2]
    while at_word >= 0:
        word = at_word if first_round else listed[at_word, WORD]
        start, n = words[word, 0], words[word, 1]
        more = min(2 * n, most)
        if (
            2 * (n_pairs + more) > pairs.shape[0]
            or n_listed + more > listed.shape[0]
            or n_touched + more > touched.shape[0]
        ):
            break
        n_changes = 0
        if first_round:
            for i in range(start, start + n - 1):
                changed[n_changes], change[n_changes] = np.int64(ids[i]) << 32 | np.int64(ids[i + 1]), 1
                n_changes += 1
        else:
            words[word, 1], n_changes = _merge(ids, start, n, pair, changed, change)
        for c in range(n_changes):
            row = _row(changed[c], pairs)
            if pairs[row, KEY] < 0:
                pairs[row, KEY], pairs[row, COUNT], pairs[row, HEAD] = changed[c], 0, -1
                n_pairs += 1
            pairs[row, COUNT] += change[c] * words[word, 2]
            if change[c] > 0 and (pairs[row, HEAD] < 0 or pairs[row, LAST] != word):
                if pairs[row, HEAD] < 0:
                    touched[n_touched, 0] = changed[c]
                    n_touched += 1
                listed[n_listed, WORD], listed[n_listed, NEXT] = word, pairs[row, HEAD]
                pairs[row, HEAD], pairs[row, LAST] = n_listed, word
                n_listed += 1
        following = at_word + 1 if first_round else listed[at_word, NEXT]
        at_word = following if following < words.shape[0] or not first_round else -1
    numbers[0], numbers[1], numbers[2] = n_pairs, n_listed, n_touched
    return at_word


@allocating_kernel
def _learn(
    data: U8, word_bounds: I64, word_counts: I64, byte_ids: U32, first_bytes: U8, first_bounds: I64,
    token_slots: I64, vocabulary_size: int, min_frequency: int,
) -> Any:  # fmt: skip
    """`first_*`: the bytes of the tokens there are at first (none: a special token that no bytes spell).
    `token_slots`: -1 throughout, a power of two, with room. Returns (left and right id of each merge, how many they
    are, where the bytes of each token begin and how many they are, how many tokens there are, and their bytes).
    """
    n_words = word_counts.size
    ids = np.empty(data.size, np.uint32)
    for i in range(data.size):
        ids[i] = byte_ids[data[i]]
    words = np.empty((n_words, 3), np.int64)  # where its ids begin, how many they are, how often it occurs
    longest = 1
    for w in range(n_words):
        words[w, 0], words[w, 1], words[w, 2] = word_bounds[w], word_bounds[w + 1] - word_bounds[w], word_counts[w]
        longest = max(longest, words[w, 1])

    n_tokens = first_bounds.size - 1
    tokens = np.empty((max(vocabulary_size, n_tokens) + 1, 2), np.int64)
    pool, pooled = _longer(first_bytes, 0), first_bytes.size
    for t in range(n_tokens):
        tokens[t, 0], tokens[t, 1] = first_bounds[t], first_bounds[t + 1] - first_bounds[t]
        if tokens[t, 1]:
            token_slots[_token(pool, tokens[t, 0], tokens[t, 1], token_slots, tokens, pool)] = t

    pairs, listed, touched = _free(1 << 12), np.empty((1 << 12, 2), np.int64), np.empty((1 << 11, 1), np.int64)
    numbers = np.zeros(3, np.int64)
    heap, n_heap = np.empty((1 << 11, 3), np.int64), 0
    merges, n_merges = np.empty((1 << 11, 2), np.int64), 0
    pair = np.zeros(3, np.int64)
    changed, change = np.empty(4 * longest, np.int64), np.empty(4 * longest, np.int64)
    first_round, at_word = True, np.int64(0 if n_words else -1)
    while True:
        # Of bytes; later those of a token with one beside it, and of those that merge with one beside them.
        most = 1 << 16 if first_round else 4 * n_tokens
        at_word = _words_of_round(
            at_word, first_round, most, pair, ids, words, pairs, listed, touched, numbers, changed, change
        )
        while at_word >= 0:  # more room, a doubling at a time
            more = min(2 * words[at_word if first_round else listed[at_word, WORD], 1], most)
            if 2 * (numbers[0] + more) > pairs.shape[0]:
                pairs = _rehashed(pairs)
            if numbers[1] + more > listed.shape[0]:
                listed = _grown(listed)
            if numbers[2] + more > touched.shape[0]:
                touched = _grown(touched)
            at_word = _words_of_round(
                at_word, first_round, most, pair, ids, words, pairs, listed, touched, numbers, changed, change
            )
        first_round = False
        for i in range(numbers[2]):
            row = _row(touched[i, 0], pairs)
            if pairs[row, COUNT] > 0:
                if n_heap == heap.shape[0]:
                    heap = _grown(heap)
                heap[n_heap, 0], heap[n_heap, 1], heap[n_heap, 2] = pairs[row, COUNT], touched[i, 0], pairs[row, HEAD]
                _up(heap, n_heap)
                n_heap += 1
            pairs[row, HEAD] = -1
        numbers[2] = 0

        # The next pair: of those whose count is what it was when they came into the heap.
        if n_tokens >= vocabulary_size:
            break
        while n_heap and heap[0, 0] != pairs[_row(heap[0, 1], pairs), COUNT]:
            heap[0, 0] = pairs[_row(heap[0, 1], pairs), COUNT]
            _down(heap, n_heap)
        if not n_heap or heap[0, 0] < max(min_frequency, 1):
            break
        pair[0], pair[1], at_word = heap[0, 1] >> 32, heap[0, 1] & 0xFFFFFFFF, heap[0, 2]
        n_heap -= 1
        _swap(heap, 0, n_heap)
        _down(heap, n_heap)
        length = tokens[pair[0], 1] + tokens[pair[1], 1]
        if pool.size < pooled + length:
            pool = _longer(pool, length)
        at = pooled
        for side in range(2):
            begins = tokens[pair[side], 0]
            for i in range(tokens[pair[side], 1]):
                pool[at] = pool[begins + i]
                at += 1
        slot = _token(pool, pooled, length, token_slots, tokens, pool)
        if token_slots[slot] < 0:
            token_slots[slot] = n_tokens
            tokens[n_tokens, 0], tokens[n_tokens, 1] = pooled, length
            pooled += length
            n_tokens += 1
        pair[2] = token_slots[slot]
        if n_merges == merges.shape[0]:
            merges = _grown(merges)
        merges[n_merges, 0], merges[n_merges, 1] = pair[0], pair[1]
        n_merges += 1
    return merges, n_merges, tokens, n_tokens, pool


def learn(words: WordCounts, vocabulary_size: int, min_frequency: int, special_tokens: Sequence[str]) -> Learned:
    """The vocabulary (special tokens, the 256 bytes, then a token a merge) of at most `vocabulary_size`, and the
    merges, of pairs that occur `min_frequency` times at least. Pure.
    """
    characters = characters_of_bytes()
    byte_of = {c: b for b, c in enumerate(characters)}
    vocabulary: dict[str, int] = {}
    for token in (*special_tokens, *sorted(characters)):
        vocabulary.setdefault(token, len(vocabulary))
    spelled = [bytes(byte_of[c] for c in t) if all(c in byte_of for c in t) else b"" for t in vocabulary]
    most = max(vocabulary_size, len(vocabulary)) + 1
    merges, n_merges, tokens, n_tokens, pool = _learn(
        words.data, words.bounds, words.counts, np.array([vocabulary[c] for c in characters], np.uint32),
        np.frombuffer(b"".join(spelled), np.uint8).copy(), np.cumsum([0, *map(len, spelled)]).astype(np.int64),
        np.full(1 << (4 * most).bit_length(), -1, np.int64), vocabulary_size, min_frequency,
    )  # fmt: skip
    names, data = list(vocabulary), pool.tobytes()
    for start, length in tokens[len(names) : n_tokens].tolist():
        names.append("".join(characters[b] for b in data[start : start + length]))
    return Learned(
        {name: i for i, name in enumerate(names)}, [(names[a], names[b]) for a, b in merges[:n_merges].tolist()]
    )
