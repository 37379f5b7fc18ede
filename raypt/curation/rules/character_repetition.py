"""Repetition of character n-grams, for scripts without spaces (ChineseWebText; Chen et al. 2023, arXiv:2311.01149)."""

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from raypt.curation.rules.base import RuleSettings, ratio, struct
from raypt.curation.view import Measured, View
from raypt.kernels import allocating_kernel
from raypt.text import unicode as u
from raypt.text.hash_table import find_slot, table_bits
from raypt.text.hashing import GOLDEN, power, spread
from raypt.text.utf8 import character


class CharacterRepetition(RuleSettings):
    """Repeated character n-grams; white space and case do not count."""

    stage: ClassVar[str] = "character_repetition"
    metrics: ClassVar[tuple[str, ...]] = ("repeated_gram_fraction",)

    gram_chars: int = Field(13, ge=2, le=64)
    """Characters of an n-gram (ChineseWebText: 13). Changing it means tagging again."""
    repeated_gram_fraction_max: float | None = 0.5
    """Largest share of n-grams that occur more than once (ChineseWebText: 0.5)."""

    def measure(self, view: View, resources: Any = None) -> Measured:
        """The metric of every document."""
        grams, repeated = _repeated(view.text.data, view.text.offsets, *u.tables(), self.gram_chars).T
        return Measured(struct({"repeated_gram_fraction": ratio(repeated, grams)}))


@allocating_kernel
def _repeated(data, offsets, pages, blocks, n):  # type: ignore[no-untyped-def]
    """int64[D, 2]: character n-grams of each document, and those of them whose n-gram occurs more than once."""
    docs = len(offsets) - 1
    most = 1
    for d in range(docs):
        most = max(most, offsets[d + 1] - offsets[d])
    size = 1 << table_bits(most)
    keys, stamps = np.empty(size, np.uint64), np.full(size, -1, np.int32)
    repeated = np.empty(size, np.bool_)
    codes = np.empty(most, np.uint64)
    leading = power(GOLDEN, n)
    out = np.zeros((docs, 2), np.int64)
    for d in range(docs):
        chars = 0
        i = offsets[d]
        while i < offsets[d + 1]:
            c, width = character(data, i)
            i += width
            if not blocks[pages[c >> 8], c & 0xFF] & u.SPACE:
                codes[chars] = c | 0x20 if 0x41 <= c <= 0x5A else c
                chars += 1
        bits = table_bits(chars)
        h = np.uint64(0)
        for k in range(chars):
            h = h * GOLDEN + codes[k] + np.uint64(1)
            if k >= n:
                h -= leading * (codes[k - n] + np.uint64(1))
            if k >= n - 1:
                out[d, 0] += 1
                mixed = spread(h)
                slot = find_slot(mixed, bits, d, keys, stamps)
                if stamps[slot] != d:
                    stamps[slot], keys[slot], repeated[slot] = d, mixed, False
                else:
                    out[d, 1] += 1 if repeated[slot] else 2  # the first occurrence counts once it is repeated
                    repeated[slot] = True
    return out
