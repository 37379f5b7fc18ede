"""The tries of KenLM's binary files, walked: every pointer from an n-gram to those that extend it.

Layout (search_trie.cc, trie.hh, trie.cc, bhiksha.cc, quantize.hh), after the head:

    u64 words, u64[1-grams] hashes of words
    quantised: u8 2, u8 bits of a probability p, u8 of a back-off b, 5 unused;
               f32[2^p], f32[2^b] of each order between the first and the longest; f32[2^p] of the longest
    1-grams:   (f32 log10, f32 back-off, u64 next)[1-grams + 2]
    each order between: array-compressed: see `_Pointers`; then entries of bits: number of the word, values, next; as
               many as n-grams and one more
    longest:   entries of bits: number of the word, value

An n-gram's extensions are the entries from its `next` to that of the entry after it: these must ascend, and end with
the table.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from raypt.curation.perplexity.kenlm_tables import finite, require
from raypt.kernels import kernel

_UNIGRAM = np.dtype([("values", "<f4", (2,)), ("next", "<u8")])
_PLAIN_BITS, _PLAIN_LONGEST_BITS = 63, 31
_QUANTISED_VERSION, _MOST_BITS = 2, 25
_ARRAY_VERSION = 0


def _bits(most: int) -> int:
    return most.bit_length()


@dataclass(frozen=True)
class _Pointers:
    """How the pointers of an order are written. Array-compressed, their upper bits are the position of the last of
    `offsets` that is not above the entry's number."""

    inline_bits: int
    offsets: int
    """How many there are; 0: the pointers are whole."""

    @classmethod
    def of(cls, entries: int, most: int, chopped: int | None) -> "_Pointers":
        """`chopped`: upper bits that may be left out (None: not array-compressed); of these, what saves most."""
        required = _bits(most)
        if chopped is None:
            return cls(required, 0)
        cost = {c: (most >> (required - c)) * 64 - entries * c for c in range(min(required, chopped) + 1)}
        chop = min(cost, key=lambda c: (cost[c], c))
        return cls(required - chop, (most >> (required - chop)) + 1)

    @property
    def bytes(self) -> int:
        """What stands before the entries."""
        return 8 * (1 + self.offsets) + 7 if self.offsets else 0


def walk(data: np.ndarray, at: int, ngrams: tuple[int, ...], *, quantised: bool, arrays: bool) -> None:
    """`data`: uint8 of the file; `at`: where its head ends. Raises Malformed."""

    def take(size: int, what: str) -> np.ndarray:
        nonlocal at
        require(at + size <= data.size, f"it ends within {what}")
        at += size
        return data[at - size : at]

    words = int(take(8, "its words").view("<u8")[0])
    require(words <= ngrams[0], f"it has {words} words and {ngrams[0]} 1-grams")
    take(8 * ngrams[0], "its words")
    values, longest = _PLAIN_BITS, _PLAIN_LONGEST_BITS
    if quantised:
        version, p, b = (int(v) for v in take(8, "its quantiser")[:3])
        sound = version == _QUANTISED_VERSION and 1 <= p <= _MOST_BITS and 1 <= b <= _MOST_BITS
        require(sound, f"its quantiser has version {version} and {p} and {b} bits")
        take(4 * ((len(ngrams) - 2) * ((1 << p) + (1 << b)) + (1 << p)), "its quantiser")
        values, longest = p + b, p
    unigrams = take(_UNIGRAM.itemsize * (ngrams[0] + 2), "its 1-grams").view(_UNIGRAM)
    finite(unigrams["values"][: words + 1], "1-grams")
    following = unigrams["next"][: words + 2]
    require(bool((following[1:] >= following[:-1]).all()), "the pointers of its 1-grams do not ascend")
    require(int(following[-1]) <= ngrams[1], "a pointer of its 1-grams points beyond its 2-grams")
    chopped = None
    if arrays and len(ngrams) > 2:
        require(at + 2 <= data.size, "it ends within its 2-grams")
        require(int(data[at]) == _ARRAY_VERSION, f"its compressed pointers are of version {data[at]}")
        chopped = int(data[at + 1])
    for n, (count, more) in enumerate(itertools.pairwise(ngrams[1:]), 2):
        pointers = _Pointers.of(count + 1, more, chopped)
        what = f"its {n}-grams"
        start = (at + 7) // 8 * 8 + 8
        take(pointers.bytes, what)
        offsets = np.zeros(1, np.uint64)
        if pointers.offsets:
            offsets = data[start : start + 8 * pointers.offsets].view("<u8").astype(np.uint64)
            ascend = offsets[0] == 0 and (offsets[1:] >= offsets[:-1]).all()
            require(bool(ascend), f"the offsets of {what} do not ascend")
        width = _bits(ngrams[0]) + values + pointers.inline_bits
        entries = take(((1 + count) * width + 7) // 8 + 8, what)
        bad = int(_astray(entries, width, width - pointers.inline_bits, pointers.inline_bits, count, more, offsets))
        require(bad < 0, f"the pointer of entry {bad} of {what} leads astray")
    take(((1 + ngrams[-1]) * (_bits(ngrams[0]) + longest) + 7) // 8 + 8, f"its {len(ngrams)}-grams")


@kernel
def _astray(entries, width, first, bits, count, most, offsets):  # type: ignore[no-untyped-def]
    """The first of `count + 1` entries whose pointer is below the one before it, or above `most`; -1 without one."""
    before, upper = np.uint64(0), 0
    mask = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    for i in range(count + 1):
        bit = i * width + first
        byte = bit >> 3
        word = np.uint64(0)
        for k in range(8):
            word |= np.uint64(entries[byte + k]) << np.uint64(8 * k)
        while upper + 1 < len(offsets) and offsets[upper + 1] <= np.uint64(i):
            upper += 1
        value = ((word >> np.uint64(bit & 7)) & mask) | (np.uint64(upper) << np.uint64(bits))
        if value < before or value > np.uint64(most):
            return i
        before = value
    return -1
