"""The hash tables of KenLM's binary files, walked: a free slot, words that there are, numbers that are numbers.

Layout (vocab.hh, search_hashed.hh, probing_hash_table.hh), after the head:

    u32 version, u32 bound; words: slots of u64 hash, u32 number
    1-grams: f32[1-grams + 1, 2]; of more words: slots of u64 key, f32 log10, f32 back-off; of the longest: slots of
    u64 key, f32 log10. With rest costs, three numbers in place of two.

A table has max(n-grams + 1, multiplier * n-grams) slots; those of key 0 are free.
"""

import numpy as np

_WORD = np.dtype([("key", "<u8"), ("value", "<u4")])
_LONGEST = np.dtype([("key", "<u8"), ("values", "<f4", (1,))])
_CHUNK = 1 << 20
"""Slots looked at together."""


class Malformed(Exception):
    """The file is not a model that KenLM wrote; the message says where it stops being one."""


def require(holds: bool, otherwise: str) -> None:
    """Raise Malformed unless it holds."""
    if not holds:
        raise Malformed(otherwise)


def walk(data: np.ndarray, at: int, ngrams: tuple[int, ...], multiplier: np.float32, width: int) -> None:
    """`data`: uint8 of the file; `at`: where its head ends; `width`: numbers of an n-gram that others extend. Raises
    Malformed."""

    def slots(count: int, layout: np.dtype, what: str) -> np.ndarray:
        nonlocal at
        buckets = max(count + 1, int(np.float32(multiplier) * np.float32(count)))
        end = at + buckets * layout.itemsize
        require(end <= data.size, f"it ends within {what}")
        found = data[at:end].view(layout)
        at = end
        return found

    require(at + 8 <= data.size, "it ends within its words")
    at += 8
    words = slots(ngrams[0], _WORD, "its words")
    for start in range(0, len(words), _CHUNK):
        part = words[start : start + _CHUNK]
        require(bool((part["value"] <= ngrams[0]).all()), "a word has a number beyond those of its n-grams of one word")
    _free(words, "its words")
    end = at + 4 * width * (ngrams[0] + 1)
    require(end <= data.size, "it ends within its 1-grams")
    finite(data[at:end].view("<f4"), "1-grams")
    at = end
    middle = np.dtype([("key", "<u8"), ("values", "<f4", (width,))])
    for n, count in enumerate(ngrams[1:], 2):
        table = slots(count, middle if n < len(ngrams) else _LONGEST, f"its {n}-grams")
        _free(table, f"its {n}-grams")
        for start in range(0, len(table), _CHUNK):
            part = table[start : start + _CHUNK]
            finite(part["values"][part["key"] != 0], f"{n}-grams")


def _free(table: np.ndarray, what: str) -> None:
    parts = (table["key"][start : start + _CHUNK] for start in range(0, len(table), _CHUNK))
    require(any(bool((keys == 0).any()) for keys in parts), f"the table of {what} has no free slot")


def finite(values: np.ndarray, what: str) -> None:
    """Malformed if a value is infinite or NaN."""
    for start in range(0, len(values), _CHUNK):
        require(bool(np.isfinite(values[start : start + _CHUNK]).all()), f"its {what} hold a number that is none")
