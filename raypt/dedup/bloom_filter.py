"""A Bloom filter (Bloom 1970) of uint64 hashes: "was this seen before?", never wrong when it says no."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from raypt.kernels import kernel
from raypt.text.hashing import GOLDEN, U64, murmur64

_1, _32, _63 = U64(1), U64(32), U64(63)
MAX_WORDS = 1 << 29
"""Of a filter (4 GiB): 32 bits of a hash choose a word among them, evenly to 12 %."""


def filter_size(keys: int, rate: float) -> tuple[int, int]:
    """(64-bit words, probes) of a filter that, holding so many keys, takes a new one for known at `rate` at most.

    m = -n ln p / (ln 2)^2 bits and k = -log2 p probes, with m a little larger where k was rounded.
    """
    probes = max(1, round(-math.log2(rate)))
    bits = -probes * max(keys, 1) / math.log1p(-(rate ** (1 / probes)))
    return max(1, math.ceil(bits / 64)), probes


def filter_bytes(keys: int, rate: float) -> int:
    """Memory of such a filter."""
    return 8 * filter_size(keys, rate)[0]


@kernel
def _add(words: Any, probes: int, hashes: Any, known: Any) -> int:
    """Add each hash; known[i] says whether all its bits were set before. Returns the bits that became set."""
    size, fresh = U64(words.shape[0]), 0
    for i in range(hashes.shape[0]):
        # Kirsch and Mitzenmacher 2008: k probes of two hashes are as good as k hashes. The second is odd.
        h, step = murmur64(hashes[i] + GOLDEN), murmur64(hashes[i] ^ GOLDEN) | _1
        seen = True
        for _ in range(probes):
            at = (h >> _32) * size >> _32
            mask = _1 << (h & _63)
            if not words[at] & mask:
                words[at] |= mask
                seen = False
                fresh += 1
            h += step
        known[i] = seen
    return fresh


@dataclass
class BloomFilter:
    """A filter for at most `keys` hashes; those added later are answered too, at a rising rate."""

    keys: int
    rate: float

    def __post_init__(self) -> None:
        size, self.probes = filter_size(self.keys, self.rate)
        if size > MAX_WORDS:
            raise ValueError(f"{self.keys} keys at {self.rate:g} need {size} words; a filter has {MAX_WORDS} at most")
        self.words = np.zeros(size, np.uint64)
        self.bits_set = 0

    @property
    def fill(self) -> float:
        """Share of the bits that are set."""
        return self.bits_set / (64 * len(self.words))

    @property
    def chance(self) -> float:
        """That a hash never added is taken for one that was, as full as the filter is now."""
        return float(self.fill**self.probes)

    def add(self, hashes: np.ndarray) -> np.ndarray:
        """bool[n]: which of the uint64 hashes were there already, from before or earlier in `hashes`; all are added."""
        known = np.empty(len(hashes), bool)
        self.bits_set += int(_add(self.words, self.probes, hashes, known))
        return known
