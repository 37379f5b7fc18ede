"""Which windows of units have occurred before: those around equal anchors are compared as text.

A context is the text of all windows of one anchor (raypt.dedup.winnow). Contexts whose anchors have one hash form a
group; equal windows are always in one group, so a window is new if no earlier context of its group holds its text.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raypt.kernels import kernel
from raypt.text.buffers import string_buffers
from raypt.text.hashing import GOLDEN, U64, hash_bytes, murmur64, power


@kernel
def _bounds(data: Any, texts: Any, tokens: bool, first: Any, bounds: Any) -> None:
    """Where each unit of each text begins, from bounds[first[text]] on, and where the last ends."""
    for i in range(texts.shape[0] - 1):
        n = first[i]
        bounds[n] = texts[i]
        for at in range(texts[i], texts[i + 1]):
            if not tokens or data[at] == 0x20:
                n += 1
                bounds[n] = at + 1


@kernel
def same_bytes(data: Any, a: Any, b: Any, size: Any) -> bool:
    """Whether data[a:a + size] is data[b:b + size]."""
    for k in range(size):  # noqa: SIM110 - a generator is no kernel
        if data[a + k] != data[b + k]:
            return False
    return True


@kernel
def _count(
    data: Any,
    bounds: Any,
    first: Any,
    windows: Any,
    order: Any,
    groups: Any,
    length: int,
    table: Any,
    owners: Any,
    hashes: Any,
    unit_hashes: Any,
    counts: Any,
) -> None:
    oldest = power(GOLDEN, length)
    for g in range(groups.shape[0] - 1):
        if groups[g + 1] - groups[g] == 1:
            continue  # equal windows have anchors of their own: a context alone repeats nothing
        total = 0
        for m in range(groups[g], groups[g + 1]):
            total += windows[order[m] + 1] - windows[order[m]]
        size = 2
        while size < 2 * total:
            size *= 2
        for at in range(size):
            table[at] = -1
        for m in range(groups[g], groups[g + 1]):
            i = order[m]
            b, n = first[i], windows[i + 1] - windows[i]
            for u in range(n + length - 1):
                unit_hashes[u] = hash_bytes(data, bounds[b + u], bounds[b + u + 1])
            rolling = U64(0)
            for u in range(length - 1):
                rolling = rolling * GOLDEN + unit_hashes[u]
            owner = next_window = np.int64(-1)
            for t in range(n):
                rolling = rolling * GOLDEN + unit_hashes[t + length - 1]
                if t > 0:
                    rolling -= unit_hashes[t - 1] * oldest
                w = windows[i] + t
                h = murmur64(rolling)
                hashes[w] = h
                slot: Any = np.int64(h & U64(size - 1))
                found = np.int64(-1)
                while table[slot] >= 0:
                    c = table[slot]
                    if hashes[c] == h:
                        j = owners[slot]
                        other = first[j] + c - windows[j]
                        # The window before was that of the same context: all but the last unit is known to be equal.
                        skip = length - 1 if owner == j and next_window == c else 0
                        x, y = bounds[b + t + skip], bounds[other + skip]
                        nbytes = bounds[b + t + length] - x
                        if nbytes == bounds[other + length] - y and same_bytes(data, x, y, nbytes):
                            found = c
                            break
                    slot = (slot + 1) & (size - 1)
                if found < 0:
                    table[slot], owners[slot] = w, i
                    owner = np.int64(-1)
                else:
                    owner, next_window = owners[slot], found + 1
                    counts[found] += counts[w]
                    counts[w] = 0


def count_windows(
    text: pa.Array | pa.ChunkedArray,
    windows: np.ndarray,
    hashes: np.ndarray,
    counts: np.ndarray,
    length: int,
    *,
    tokens: bool,
) -> None:
    """Gather the occurrences of equal windows at the first of them. Pure but for `counts`.

    `text` (binary) and `hashes` (uint64, of the anchors) of n contexts in the order of their documents; context i has
    the windows [windows[i], windows[i + 1]) of int64[n + 1]. `counts` (int64, a window): occurrences so far, 1 for one
    that is seen for the first time; afterwards 0 for a window whose text an earlier one has.
    """
    data, texts = string_buffers(text)
    units = np.diff(windows) + length - 1
    first = np.concatenate([[0], np.cumsum(units + 1)]).astype(np.int64)
    bounds = np.empty(first[-1], np.int64)
    _bounds(data, texts, tokens, first, bounds)
    order = np.argsort(hashes, kind="stable")
    sorted_hashes = hashes[order]
    new = np.append(True, sorted_hashes[1:] != sorted_hashes[:-1])[: len(order)]
    groups = np.append(np.flatnonzero(new), len(order))
    biggest = int(np.add.reduceat(np.diff(windows)[order], groups[:-1]).max()) if len(order) else 0
    room = 1 << max(1, (2 * biggest - 1).bit_length())
    scratch = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(len(counts), np.uint64)
    unit_hashes = np.empty(int(units.max()) if len(units) else 0, np.uint64)
    _count(data, bounds, first, windows, order, groups, length, *scratch, unit_hashes, counts)


@dataclass(frozen=True)
class Runs:
    """Runs of windows one after the other in a context."""

    contexts: np.ndarray
    starts: np.ndarray
    """int64: the first window of the run, from 0 in each context."""
    stops: np.ndarray
    """int64: the window behind it."""


def runs_of(marked: np.ndarray, windows: np.ndarray) -> Runs:
    """The runs of marked windows (bool[windows[-1]]) within each context. Pure."""
    n = len(marked)
    opens = marked.copy()
    opens[1:] &= ~marked[:-1]
    closes = marked.copy()
    closes[:-1] &= ~marked[1:]
    inner = windows[1:-1]
    inner = inner[(inner > 0) & (inner < n)]
    opens[inner] |= marked[inner]
    closes[inner - 1] |= marked[inner - 1]
    starts, stops = np.flatnonzero(opens), np.flatnonzero(closes) + 1
    contexts = np.searchsorted(windows, starts, "right") - 1
    return Runs(contexts, starts - windows[contexts], stops - windows[contexts])
