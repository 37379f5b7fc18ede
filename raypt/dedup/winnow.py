"""Winnowing: few places of a text, chosen so that equal passages have equal ones (Schleimer, Wilkerson, Aiken 2003).

A window is `length` consecutive units. Of the grams in it (`length` // 2 units each) the one of the least hash is its
anchor, the last of several. So windows of equal content have equal anchors at the same place in them, and all windows
of a text share few: about 4 in `length` units.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from raypt.kernels import kernel
from raypt.text.hashing import GOLDEN, U64, murmur64, power


@dataclass(frozen=True)
class Anchors:
    """The anchors of n texts, in order; each window of a text belongs to one."""

    hashes: np.ndarray
    """uint64: of the gram; spread evenly, though least hashes were chosen."""
    docs: np.ndarray
    """int64: the text."""
    firsts: np.ndarray
    """int64: the unit at which the first window of the anchor begins."""
    before: np.ndarray
    """int64: units from there to the anchor."""
    windows: np.ndarray
    """int64: the windows of the anchor, which begin one unit after the other."""


def gram_of(length: int) -> int:
    """Units in a gram: longer ones meet by chance less often, shorter ones make fewer anchors."""
    return max(1, length // 2)


def anchors_a_unit(length: int) -> float:
    """Anchors a unit of text without repeats (Schleimer et al.: 2 over the grams of a window and one)."""
    return 2 / (length - gram_of(length) + 2)


@kernel
def _winnow(
    values: Any,
    offsets: Any,
    length: int,
    gram: int,
    queue: Any,
    least: Any,
    hashes: Any,
    docs: Any,
    firsts: Any,
    before: Any,
    windows: Any,
) -> int:
    oldest, ring, n = power(GOLDEN, gram), queue.shape[0] - 1, 0
    for doc in range(offsets.shape[0] - 1):
        start, end = offsets[doc], offsets[doc + 1]
        if end - start < length:
            continue
        rolling, anchor = U64(0), -1
        head = tail = 0  # of a ring of grams with rising hashes: the window's least is at the head
        for u in range(start, end):
            rolling = rolling * GOLDEN + U64(values[u]) + U64(1)
            if u >= start + gram:
                rolling -= (U64(values[u - gram]) + U64(1)) * oldest
            at = u - start - gram + 1
            if at < 0:
                continue
            h = murmur64(rolling)
            while tail > head and least[(tail - 1) & ring] >= h:
                tail -= 1
            queue[tail & ring], least[tail & ring] = at, h
            tail += 1
            window = u - start - length + 1
            if window < 0:
                continue
            if queue[head & ring] < window:
                head += 1
            if queue[head & ring] != anchor:
                anchor = queue[head & ring]
                hashes[n] = murmur64(least[head & ring] + GOLDEN)
                docs[n], firsts[n], before[n], windows[n] = doc, window, anchor - window, 0
                n += 1
            windows[n - 1] += 1
    return n


def winnow(values: np.ndarray, offsets: np.ndarray, length: int) -> Anchors:
    """The anchors of n texts; those of fewer than `length` units have none. `values` as `unit_values` gives them."""
    gram, size = gram_of(length), len(values)
    room = 1 << (length - gram + 1).bit_length()
    hashes, columns = np.empty(size, np.uint64), np.empty((4, size), np.int64)
    n = _winnow(values, offsets, length, gram, np.empty(room, np.int64), np.empty(room, np.uint64), hashes, *columns)
    return Anchors(hashes[:n], *(column[:n] for column in columns))
