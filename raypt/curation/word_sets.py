"""Sets of words by language, of any size, for compiled kernels that ask which sets a word is in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from raypt.curation import languages as tongues
from raypt.kernels import inlined, kernel
from raypt.text.hashing import FNV_BASIS, FNV_PRIME
from raypt.text.unicode import lower_case, lower_of


@inlined
def spell(h: Any, code: Any) -> Any:
    """The hash of a word one code point longer: FNV-1a over lower-case code points, from FNV_BASIS."""
    return (h ^ np.uint64(code)) * FNV_PRIME


@kernel
def _hashes(codes: Any, ends: Any, lower: Any, out: Any) -> None:
    start = 0
    for w in range(len(ends)):
        h = FNV_BASIS
        for i in range(start, ends[w]):
            h = spell(h, lower_of(lower, codes[i]))
        out[w] = h
        start = ends[w]


def hashes(words: Iterable[str]) -> np.ndarray:
    """uint64[n]: what `spell` makes of each word in lower case."""
    words = list(words)
    codes = np.frombuffer("".join(words).encode("utf-32-le"), np.uint32)
    ends, out = np.cumsum([len(word) for word in words], dtype=np.int64), np.empty(len(words), np.uint64)
    _hashes(codes, ends, lower_case(), out)
    return out


@dataclass(frozen=True)
class WordSets:
    """Open-addressing tables, one a language: `bits[slot]` has bit s where the word of `keys[slot]` is in set s, 0
    where the slot is empty. Shapes: starts, masks int64[K]; keys uint64[S], bits uint8[S]."""

    languages: dict[str, int]
    starts: np.ndarray
    masks: np.ndarray
    keys: np.ndarray
    bits: np.ndarray

    @classmethod
    def build(cls, sets: Iterable[Mapping[str, Iterable[str]]]) -> "WordSets":
        """`sets`: at most 8, each words by language (any code), in any case."""
        found: dict[str, dict[int, int]] = {}
        for s, words_of in enumerate(sets):
            for language, words in words_of.items():
                table = found.setdefault(tongues.same(language, found) or language, {})
                for h in hashes(words).tolist():
                    table[h] = table.get(h, 0) | 1 << s
        starts, masks, keys, bits = [], [], [np.zeros(0, np.uint64)], [np.zeros(0, np.uint8)]
        total = 0
        for table in found.values():
            size = 1 << (2 * len(table)).bit_length()
            key, bit = np.zeros(size, np.uint64), np.zeros(size, np.uint8)
            for h, of in table.items():
                slot = h >> 20 & (size - 1)
                while bit[slot]:
                    slot = (slot + 1) & (size - 1)
                key[slot], bit[slot] = h, of
            starts.append(total)
            masks.append(size - 1)
            keys.append(key)
            bits.append(bit)
            total += size
        return cls(
            {language: k for k, language in enumerate(found)}, np.array(starts, np.int64), np.array(masks, np.int64),
            np.concatenate(keys), np.concatenate(bits),
        )  # fmt: skip

    def index(self, labels: list[str | None]) -> np.ndarray:
        """int64[n]: the table of each document's language, by any code, -1 if it has none."""
        table = {label: tongues.match(label, self.languages) for label in set(labels)}
        return np.array([-1 if (key := table[x]) is None else self.languages[key] for x in labels], np.int64)


@kernel
def sets_of(h: Any, start: Any, mask: Any, keys: Any, bits: Any) -> int:
    """The bits of the word that hashes to h, in the table at `start`; 0: it is in no set."""
    slot = np.int64(h >> np.uint64(20)) & mask
    while bits[start + slot] != 0:
        if keys[start + slot] == h:
            return int(bits[start + slot])
        slot = (slot + 1) & mask
    return 0
