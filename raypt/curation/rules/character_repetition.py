"""Repetition of character n-grams, for scripts without spaces (ChineseWebText; Chen et al. 2023, arXiv:2311.01149)."""

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from raypt.curation.rules.base import RuleSettings, ratio, struct
from raypt.curation.view import Measured, View
from raypt.kernels import kernel
from raypt.text import unicode as u
from raypt.text.hash_table import find_slot, hash_table, most_in_a_document, table_bits
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
        text = view.text
        most = most_in_a_document(text.offsets)
        keys, stamps = hash_table(most)
        out = np.zeros((len(text), 2), np.int64)
        work = keys, stamps, np.empty(len(keys), np.bool_), np.empty(most, np.uint64)
        _repeated(text.data, text.offsets, *u.tables(), self.gram_chars, *work, out)
        return Measured(struct({"repeated_gram_fraction": ratio(out[:, 1], out[:, 0])}))


@kernel
def _repeated(data, offsets, pages, blocks, n, keys, stamps, repeated, codes, out):  # type: ignore[no-untyped-def]
    """Into out[D, 2] the character n-grams of each document, and those of them whose n-gram occurs more than once. For
    work: a `hash_table` for those of the longest document, whether what is in a slot of it is repeated, and characters.
    """
    leading = power(GOLDEN, n)
    for d in range(len(offsets) - 1):
        stamp = d + 1
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
                slot = find_slot(mixed, bits, stamp, keys, stamps)
                if stamps[slot] != stamp:
                    stamps[slot], keys[slot], repeated[slot] = stamp, mixed, False
                else:
                    out[d, 1] += 1 if repeated[slot] else 2  # the first occurrence counts once it is repeated
                    repeated[slot] = True
