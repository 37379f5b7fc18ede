"""An open-addressing hash table in arrays, for kernels that count n-grams and lines of a document."""

from typing import Any

import numpy as np

from raypt.kernels import kernel


@kernel
def table_bits(entries: Any) -> int:
    """log2 of a hash table at most half full."""
    bits = 4
    while (1 << bits) < 2 * entries:
        bits += 1
    return bits


def hash_table(entries: int) -> tuple[np.ndarray, np.ndarray]:
    """`(keys uint64, stamps int32)` for at most `entries` keys at a time: a slot belongs to the table whose stamp it
    has, so a new table is a new stamp above 0. Kernels do not allocate: it would double their time to compile."""
    size = 1 << int(table_bits(entries))
    return np.empty(size, np.uint64), np.zeros(size, np.int32)


def most_in_a_document(*offsets: np.ndarray) -> int:
    """The largest number of items (tokens, lines) that any document has, at least 1."""
    return max(1, *(int(np.diff(o).max(initial=1)) for o in offsets))


@kernel
def find_slot(h: Any, bits: Any, stamp: Any, keys: Any, stamps: Any) -> Any:
    """The slot of `h` in the table of `stamp` (open addressing; slots of other stamps are empty)."""
    mask = (1 << bits) - 1
    slot = np.int64(h >> np.uint64(64 - bits))
    while stamps[slot] == stamp and keys[slot] != h:
        slot = (slot + 1) & mask
    return slot
