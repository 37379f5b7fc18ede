"""Byte-level BPE at the speed of memory: split, look the word up, merge only words not seen before.

The ids are those of Hugging Face `tokenizers`, tested against it. Text is UTF-8 in Arrow buffers; no Python object is
made for a document, a word or a token. The words seen stay in a bounded table that lives as long as the encoder.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from raypt.kernels import kernel
from raypt.text.hashing import FNV_BASIS, FNV_PRIME, spread
from raypt.tokens.tokenizer.byte_level import CL100K, O200K, ByteLevelBPE, Unsupported, character_classes
from raypt.tokens.tokenizer.words import U8, cl100k_word, gpt2_word, o200k_word

_TABLE = 1 << 20
_MAX_WORDS = _TABLE // 2
_KEY_POOL = 16 << 20
_VALUE_POOL = 4 << 20
_LONGEST_KEPT = 256
_NO_RANK = np.uint64(0xFFFFFFFF)
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_SCANNED = 40
_WORK, _MOST_WORK = 1 << 10, 1 << 18
"""Bytes of the longest word that there is memory for at first, and that it is kept for."""

U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
I64: TypeAlias = npt.NDArray[np.int64]


@kernel
def _merged(left: np.uint32, right: np.uint32, keys: U64, values: U64) -> np.uint64:
    """rank << 32 | merged id of a pair; its high half is _NO_RANK if the pair does not merge."""
    key = np.uint64(left) << np.uint64(32) | np.uint64(right)
    mask = np.uint64(keys.size - 1)
    at = spread(key) & mask
    while True:
        found = keys[at]
        if found == key:
            return np.uint64(values[at])
        if found == _EMPTY:
            return _EMPTY
        at = (at + np.uint64(1)) & mask


@kernel
def _merge_short(ids: U32, n: int, keys: U64, values: U64, pairs: U64) -> int:
    """Merge `ids[:n]` in place, the pair of lowest rank (leftmost among equals) first; the number of ids left."""
    for i in range(n - 1):
        pairs[i] = _merged(ids[i], ids[i + 1], keys, values)
    while n > 1:
        best, at = _EMPTY, -1
        for i in range(n - 1):
            # Equal ranks have equal ids, so that the first of them is the smallest in `<` too.
            if pairs[i] < best:
                best, at = pairs[i], i
        if at < 0:
            break
        ids[at] = np.uint32(best & np.uint64(0xFFFFFFFF))
        n -= 1
        for i in range(at + 1, n):
            ids[i] = ids[i + 1]
        for i in range(at + 1, n - 1):
            pairs[i] = pairs[i + 1]
        if at > 0:
            pairs[at - 1] = _merged(ids[at - 1], ids[at], keys, values)
        if at < n - 1:
            pairs[at] = _merged(ids[at], ids[at + 1], keys, values)
    return n


@kernel
def _push(heap: U64, size: int, item: np.uint64) -> int:
    at = size
    while at > 0 and heap[(at - 1) >> 1] > item:
        heap[at] = heap[(at - 1) >> 1]
        at = (at - 1) >> 1
    heap[at] = item
    return size + 1


@kernel
def _pop(heap: U64, size: int) -> int:
    size -= 1
    item, at = heap[size], 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= item:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = item
    return size


@kernel
def _merge_long(ids: U32, n: int, keys: U64, values: U64, pairs: U64, heap: U64, links: I64) -> Any:
    """As `_merge_short`, in O(n log n): a heap of (rank, position) over a linked list. For work: `pairs` of n, `heap`
    of 3 n, `links` of [2, n].
    """
    following, before = links[0], links[1]
    for i in range(n):
        following[i], before[i] = i + 1, i - 1
    pairs[n - 1] = _EMPTY
    size = 0
    high = np.uint64(32)
    for i in range(n - 1):
        pairs[i] = _merged(ids[i], ids[i + 1], keys, values)
        if pairs[i] != _EMPTY:
            size = _push(heap, size, pairs[i] >> high << high | np.uint64(i))
    while size:
        item = heap[0]
        size = _pop(heap, size)
        at = np.int64(item & np.uint64(0xFFFFFFFF))
        if pairs[at] == _EMPTY or pairs[at] >> high != item >> high:
            continue  # one of the two has merged with another since
        right = following[at]
        ids[at] = np.uint32(pairs[at] & np.uint64(0xFFFFFFFF))
        pairs[right] = _EMPTY
        following[at] = following[right]
        if following[at] < n:
            before[following[at]] = at
            pairs[at] = _merged(ids[at], ids[following[at]], keys, values)
            if pairs[at] != _EMPTY:
                size = _push(heap, size, pairs[at] >> high << high | np.uint64(at))
        else:
            pairs[at] = _EMPTY
        left = before[at]
        if left >= 0:
            pairs[left] = _merged(ids[left], ids[at], keys, values)
            if pairs[left] != _EMPTY:
                size = _push(heap, size, pairs[left] >> high << high | np.uint64(left))
    out, i = 0, 0
    while i < n:
        ids[out] = ids[i]
        out += 1
        i = following[i]
    return out


@kernel
def _hash(data: U8, at: int, end: int) -> np.uint64:
    h = FNV_BASIS
    for i in range(at, end):
        h = (h ^ np.uint64(data[i])) * FNV_PRIME
    return h ^ (h >> np.uint64(32))


@kernel
def _find(data: U8, at: int, end: int, h: np.uint64, slots: I64, words: I64, key_pool: U8) -> Any:
    """The slot of a word: `slots[it]` is its number, or -1 if the word is not there."""
    mask = slots.size - 1
    slot = np.int64(h) & mask
    while slots[slot] >= 0:
        word = slots[slot]
        start, length = words[word, 0], words[word, 1]
        if length == end - at:
            i = 0
            while i < length and key_pool[start + i] == data[at + i]:
                i += 1
            if i == length:
                return slot
        slot = (slot + 1) & mask
    return slot


@kernel
def _keep(
    data: U8,
    at: int,
    end: int,
    ids: U32,
    n: int,
    slot: int,
    slots: I64,
    words: I64,
    key_pool: U8,
    value_pool: U32,
    used: I64,
) -> None:
    """Remember a word's ids in `slot`, as long as there is room."""
    length = end - at
    if used[0] >= words.shape[0] or used[1] + length > key_pool.size or used[2] + n > value_pool.size:
        return
    word = used[0]
    words[word, 0], words[word, 1], words[word, 2], words[word, 3] = used[1], length, used[2], n
    for i in range(length):
        key_pool[used[1] + i] = data[at + i]
    for i in range(n):
        value_pool[used[2] + i] = ids[i]
    slots[slot] = word
    used[0] += 1
    used[1] += length
    used[2] += n


@kernel
def _encode(
    data: U8,
    offsets: I64,
    classes: U8,
    family: int,
    max_digits: int,
    isolate_digits: bool,
    end_spaces: bool,
    contractions: bool,
    byte_ids: U32,
    keys: U64,
    values: U64,
    slots: I64,
    words: I64,
    key_pool: U8,
    value_pool: U32,
    used: I64,
    bos: int,
    eos: int,
    pairs: U64,
    heap: U64,
    links: I64,
    at_word: I64,
    out: U32,
    ends: I64,
) -> Any:
    """Encode documents `data[offsets[i]:offsets[i + 1]]` into `out`; `ends[i + 1]` is where document i ends there.

    Goes on at `at_word`: document, byte in it (-1: it has not begun), ids before. Returns 0 when all is done; or the
    length of a word, to which `at_word` then points, that is longer than `pairs`.
    """
    document, within, n_out = at_word[0], at_word[1], at_word[2]
    while document < offsets.size - 1:
        at, end = offsets[document] + max(within, 0), offsets[document + 1]
        if bos >= 0 and within < 0:
            out[n_out] = bos
            n_out += 1
        while at < end:
            if family == CL100K:
                stop = cl100k_word(data, at, end, classes, max_digits, end_spaces)
            elif family == O200K:
                stop = o200k_word(data, at, end, classes, max_digits, contractions)
            else:
                stop = gpt2_word(data, at, end, classes, max_digits, isolate_digits)
            length = stop - at
            if length == 1:
                out[n_out] = byte_ids[data[at]]
                n_out += 1
                at = stop
                continue
            slot = -1
            if length <= _LONGEST_KEPT:
                slot = _find(data, at, stop, _hash(data, at, stop), slots, words, key_pool)
                if slots[slot] >= 0:
                    word = slots[slot]
                    start, n = words[word, 2], words[word, 3]
                    for i in range(n):
                        out[n_out + i] = value_pool[start + i]
                    n_out += n
                    at = stop
                    continue
            if length > pairs.size:
                at_word[0], at_word[1], at_word[2] = document, at - offsets[document], n_out
                return length
            ids = out[n_out:]  # which has room for an id a byte
            for i in range(length):
                ids[i] = byte_ids[data[at + i]]
            n = (
                _merge_short(ids, length, keys, values, pairs)
                if length <= _SCANNED
                else _merge_long(ids, length, keys, values, pairs, heap, links)
            )
            n_out += n
            if slot >= 0:
                _keep(data, at, stop, ids, n, slot, slots, words, key_pool, value_pool, used)
            at = stop
        if eos >= 0:
            out[n_out] = eos
            n_out += 1
        ends[document + 1] = n_out
        document, within = document + 1, -1
    at_word[2] = n_out
    return 0


@kernel
def _preload_words(
    data: U8, bounds: I64, ids: U32, slots: I64, words: I64, key_pool: U8, value_pool: U32, used: I64
) -> None:
    for i in range(bounds.size - 1):
        at, end = bounds[i], bounds[i + 1]
        if end - at > 1:  # a single byte is looked up elsewhere
            slot = _find(data, at, end, _hash(data, at, end), slots, words, key_pool)
            _keep(data, at, end, ids[i : i + 1], 1, slot, slots, words, key_pool, value_pool, used)


class FastBPE:
    """An encoder for one tokenizer. Not thread-safe: its table of words grows as it encodes."""

    def __init__(self, model: ByteLevelBPE) -> None:
        self._model = model
        self._classes = character_classes()
        self._slots = np.full(_TABLE, -1, np.int64)
        self._words = np.empty((_MAX_WORDS, 4), np.int64)
        self._key_pool = np.empty(_KEY_POOL, np.uint8)
        self._value_pool = np.empty(_VALUE_POOL, np.uint32)
        self._used = np.zeros(3, np.int64)
        self._work = _work(_WORK)
        if model.whole_words:
            self._preload([word for word, _ in model.whole_words], [token for _, token in model.whole_words])

    def _preload(self, words: list[bytes], tokens: list[int]) -> None:
        """Words that are tokens as they are stand in the table from the start: all of them must have room there."""
        bounds = np.cumsum([0, *map(len, words)])
        if len(words) > _MAX_WORDS or bounds[-1] > _KEY_POOL or max(map(len, words)) > _LONGEST_KEPT:
            raise Unsupported("its vocabulary of whole words is larger than the table of words")
        data = np.frombuffer(b"".join(words), np.uint8)
        ids = np.array(tokens, np.uint32)
        _preload_words(data, bounds, ids, self._slots, self._words, self._key_pool, self._value_pool, self._used)

    def encode(self, data: U8, offsets: I64, bos: int | None, eos: int | None) -> tuple[U32, I64]:
        """(ids uint32[total], ends int64[n + 1]) of the UTF-8 documents `data[offsets[i]:offsets[i + 1]]`."""
        n = offsets.size - 1
        # Read-only views, always: numba compiles the kernel anew for writable arrays.
        data, offsets = data.view(), offsets.view()
        data.flags.writeable = offsets.flags.writeable = False
        size = int(offsets[-1] - offsets[0]) + n * ((bos is not None) + (eos is not None))
        out, ends = np.empty(size, np.uint32), np.zeros(n + 1, np.int64)
        split: Any = self._model.splitting
        model = self._model
        at_word, longer = np.array([0, -1, 0]), -1
        while longer:
            if longer > self._work[0].size:
                self._work = _work(1 << longer.bit_length())
            longer = _encode(
                data, offsets, self._classes,
                split.family, split.max_digits, split.isolate_digits, split.end_spaces, split.contractions,
                model.byte_ids, model.merge_keys, model.merge_values,
                self._slots, self._words, self._key_pool, self._value_pool, self._used,
                -1 if bos is None else bos, -1 if eos is None else eos, *self._work, at_word, out, ends,
            )  # fmt: skip
        if self._work[0].size > _MOST_WORK:
            self._work = _work(_WORK)
        return out[: at_word[2]], ends


def _work(longest: int) -> tuple[U64, U64, I64]:
    """Memory to merge words of up to so many bytes in, 48 times as many."""
    return np.empty(longest, np.uint64), np.empty(3 * longest, np.uint64), np.empty((2, longest), np.int64)
