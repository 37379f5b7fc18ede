"""Documents of token ids to fixed-length samples, with segment boundaries; pure numpy/numba.

A document longer than a sample is cut into pieces, none of them dropped: tokens in = tokens packed. A piece that
continues a document is a segment of its own. Padding only ever stands at the end of a sample.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from raypt.kernels import allocating_kernel, kernel


@dataclass(frozen=True)
class Packed:
    """Samples of `width` = S + 1 slots.

    `tokens` [n, width]; sample i has segments `lengths[offsets[i]:offsets[i + 1]]`, in order from its start; the slots
    after them are padding.
    """

    tokens: npt.NDArray[np.generic]
    lengths: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int64]
    split_documents: int
    """Documents that lie in more than one segment."""
    padding: int
    """Slots that hold padding."""

    @property
    def rows(self) -> int:
        return len(self.tokens)


@allocating_kernel
def _pieces(
    offsets: npt.NDArray[np.int64], width: int, greedy: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    """(start, length) of each piece in document order, and the number of documents cut."""
    n = 0
    for pass_ in range(2):
        if pass_ == 1:
            starts, lengths = np.empty(n, np.int64), np.empty(n, np.int64)
        n, split, room = 0, 0, width
        for d in range(offsets.size - 1):
            at, left, parts = offsets[d], offsets[d + 1] - offsets[d], 0
            while left > 0:
                if not greedy:
                    room = width
                take = min(left, room)
                if pass_ == 1:
                    starts[n], lengths[n] = at, take
                n, at, left, parts = n + 1, at + take, left - take, parts + 1
                room -= take
                if room == 0:
                    room = width
            split += parts > 1
    return starts, lengths, split


@allocating_kernel
def _greedy_bins(lengths: npt.NDArray[np.int64], width: int) -> tuple[npt.NDArray[np.int64], int]:
    bins = np.empty(lengths.size, np.int64)
    used, b = 0, 0
    for i in range(lengths.size):
        if used == width:
            used, b = 0, b + 1
        bins[i] = b
        used += lengths[i]
    return bins, (b + 1 if lengths.size else 0)


@allocating_kernel
def _best_fit_bins(
    lengths: npt.NDArray[np.int64], order: npt.NDArray[np.int64], width: int
) -> tuple[npt.NDArray[np.int64], int]:
    """Each piece, longest first, into the fullest open sample that still takes it.

    Open samples hang in one list per free room; a binary tree over the rooms finds the least sufficient one, so the
    whole is O(n log width).
    """
    leaves = 1
    while leaves < width + 1:
        leaves *= 2
    tree = np.zeros(2 * leaves, np.int64)  # open samples below each node
    head = np.full(width + 1, -1, np.int64)
    following = np.empty(lengths.size, np.int64)
    bins = np.empty(lengths.size, np.int64)
    n_bins = 0
    for piece in order:
        need = lengths[piece]
        # The first non-empty leaf at or right of `need`: climb until a right sibling is non-empty, then descend.
        node = leaves + need
        if tree[node] == 0:
            while node > 1 and (node & 1 == 1 or tree[node + 1] == 0):
                node >>= 1
            if node > 1:
                node += 1
                while node < leaves:
                    node = 2 * node if tree[2 * node] > 0 else 2 * node + 1
            else:
                node = 0
        if node == 0:
            target, room = n_bins, width
            n_bins += 1
        else:
            room = node - leaves
            target = head[room]
            head[room] = following[target]
            while node >= 1:
                tree[node] -= 1
                node >>= 1
        bins[piece] = target
        room -= need
        following[target] = head[room]
        head[room] = target
        if room > 0:
            node = leaves + room
            while node >= 1:
                tree[node] += 1
                node >>= 1
    return bins, n_bins


@allocating_kernel
def _fill(
    ids: npt.NDArray[np.generic],
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    pieces: npt.NDArray[np.int64],
    bins: npt.NDArray[np.int64],
    tokens: npt.NDArray[np.generic],
    used: npt.NDArray[np.int64],
) -> None:
    for piece in pieces:
        row, n = bins[piece], lengths[piece]
        at = used[row]
        tokens[row, at : at + n] = ids[starts[piece] : starts[piece] + n]
        used[row] = at + n


def pack(
    ids: npt.NDArray[np.generic],
    offsets: npt.NDArray[np.int64],
    *,
    width: int,
    pad_id: int,
    strategy: Literal["best_fit", "greedy"] = "best_fit",
    document_boundaries: bool = True,
) -> Packed:
    """Pack documents `ids[offsets[i]:offsets[i + 1]]` into samples of `width` slots; the dtype of `ids` is kept.

    Empty documents vanish. Within a sample, pieces stand in document order under `greedy`, longest first under
    `best_fit`.
    """
    starts, lengths, split = _pieces(offsets, width, strategy == "greedy")
    if strategy == "greedy":
        pieces = np.arange(lengths.size)
        bins, n_bins = _greedy_bins(lengths, width)
    else:
        pieces = np.argsort(-lengths, kind="stable")
        bins, n_bins = _best_fit_bins(lengths, pieces, width)
    tokens = np.full((n_bins, width), pad_id, ids.dtype)
    used = np.zeros(n_bins, np.int64)
    _fill(ids, starts, lengths, pieces, bins, tokens, used)
    if document_boundaries:
        by_row = pieces[np.argsort(bins[pieces], kind="stable")]
        segment_lengths = lengths[by_row]
        per_row = np.bincount(bins, minlength=n_bins)
    else:
        segment_lengths, per_row = used, np.ones(n_bins, np.int64)
    return Packed(
        tokens,
        segment_lengths.astype(np.uint32),
        np.concatenate([[0], np.cumsum(per_row)]).astype(np.int64),
        int(split),
        int(n_bins * width - used.sum()),
    )


@kernel
def _expand(
    lengths: npt.NDArray[np.uint32],
    offsets: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    out: npt.NDArray[np.unsignedinteger],
) -> None:
    for i in range(rows.size):
        at = 0
        first = offsets[rows[i]]
        for s in range(first, offsets[rows[i] + 1]):
            out[i, at : at + lengths[s]] = s - first + 1
            at += lengths[s]


def segment_type(width: int) -> np.dtype[np.unsignedinteger]:
    """uint16, or uint32 where a sample of `width` slots could hold more segments than that."""
    return np.dtype(np.uint16 if width < 1 << 16 else np.uint32)


def segments_of(
    lengths: npt.NDArray[np.uint32], offsets: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], width: int
) -> npt.NDArray[np.unsignedinteger]:
    """`segment_type`[len(rows), width]: the ordinal (from 1) of each slot's segment within its sample; 0 = padding."""
    out = np.zeros((rows.size, width), segment_type(width))
    _expand(lengths, offsets, np.ascontiguousarray(rows, np.int64), out)
    return out
