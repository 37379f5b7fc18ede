"""Boxes of parameters: cutting, joining and finding them."""

import math
import time
from itertools import pairwise

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from raypt.parallel.state import Box, BoxIndex, Piece

shapes = st.lists(st.integers(1, 6), max_size=4).map(tuple)


@st.composite
def boxes_in(draw: st.DrawFn, shape: tuple[int, ...]) -> Box:
    starts = [draw(st.integers(0, n - 1)) for n in shape]
    return Box(tuple(starts), tuple(draw(st.integers(1, n - a)) for a, n in zip(starts, shape, strict=True)))


@st.composite
def grids(draw: st.DrawFn) -> tuple[tuple[int, ...], list[Box]]:
    """A shape and the boxes of a grid over it, in any order."""
    shape = draw(shapes)
    axes = []
    for n in shape:
        cuts = sorted({0, n, *draw(st.lists(st.integers(0, n), max_size=3))})
        axes.append(list(pairwise(cuts)))
    cells = [Box((), ())]
    for axis in axes:
        cells = [Box((*c.offset, a), (*c.shape, b - a)) for c in cells for a, b in axis]
    return shape, draw(st.permutations(cells))


@given(shapes, st.data())
def test_a_run_of_a_box_is_cut_into_few_boxes_that_hold_it_in_order(
    shape: tuple[int, ...], data: st.DataObject
) -> None:
    outer = tuple(n + 3 for n in shape)
    box = data.draw(boxes_in(outer))
    start = data.draw(st.integers(0, box.numel))
    numel = data.draw(st.integers(0, box.numel - start))
    array = np.arange(math.prod(outer)).reshape(outer)
    run = array[box.inside(Box.whole(outer))].reshape(-1)[start : start + numel]
    parts = box.run(start, numel)
    assert [x for part in parts for x in array[part.inside(Box.whole(outer))].ravel().tolist()] == run.tolist()
    assert len(parts) <= max(1, 2 * len(shape) - 1)


@given(grids(), st.data())
def test_the_boxes_of_a_grid_that_meet_a_box_hold_it_exactly(
    grid: tuple[tuple[int, ...], list[Box]], data: st.DataObject
) -> None:
    shape, cells = grid
    wanted = data.draw(boxes_in(shape))
    array = np.arange(math.prod(shape)).reshape(shape)
    out = np.full(wanted.shape, -1)
    found = BoxIndex.of(cells).meeting(wanted)
    for i in found:
        common = wanted.meet(cells[i])
        assert common is not None, "a box that shares nothing was found"
        out[common.inside(wanted)] = array[common.inside(Box.whole(shape))]
    assert np.array_equal(out, array[wanted.inside(Box.whole(shape))])
    assert sorted(set(found.tolist())) == found.tolist()


def test_a_piece_is_the_run_of_its_buffer_in_boxes_that_are_live_views() -> None:
    buffer = torch.arange(20.0)
    piece = Piece("w", (4, 8), Box((1, 2), (3, 5)), start=3, numel=9, buffer=buffer, offset=6)
    got = list(piece.boxes(buffer))
    assert [box for box, _ in got] == [Box((1, 5), (1, 2)), Box((2, 2), (1, 5)), Box((3, 2), (1, 2))]
    assert [x for _, view in got for x in view.ravel().tolist()] == list(range(6, 15))
    got[1][1].zero_()
    assert buffer[8:13].tolist() == [0.0] * 5


def test_a_matrix_cut_by_columns_over_512_ranks_is_found_in_a_time_that_does_not_grow_with_its_rows() -> None:
    """As runs of the flattened matrix this cut is 8,192 pieces a rank, four million in all."""
    cells = [Box((0, 16 * rank), (8192, 16)) for rank in range(512)]
    index = BoxIndex.of(cells)
    began = time.perf_counter()
    for rank in range(512):
        assert index.meeting(Box((0, 16 * rank), (8192, 16))).tolist() == [rank]
    assert time.perf_counter() - began < 2  # some 20 microseconds each; four million runs would take minutes
