"""Training state as boxes of globally named parameters: the form in which it is saved and moved.

A box is a rectangle of a parameter in its own axes: [offset, offset + shape). Whatever the strategy that cut the state,
a rank owns few of them. A tensor-parallel cut is one box, of rows or of columns. ZeRO cuts a flattened parameter (or
the flattened box that a mesh left to the rank) into runs of elements, and a run of an n-dimensional array is at most
2n - 1 boxes: the end of a row, whole rows, the beginning of a row. Because a box names its global position, a state
written by any number of ranks on any mesh is read by any other: no conversion, no pickle.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

MASTER = "master"
"""The fp32 weight itself, beside the optimizer's states (exp_avg, exp_avg_sq, ...)."""
OUTER = "outer_momentum"
"""Of local SGD's outer optimizer: no state of the optimizer that updates the weights."""

Shape = tuple[int, ...]


class Box(NamedTuple):
    """A rectangle of an array: along axis i, elements [offset[i], offset[i] + shape[i])."""

    offset: Shape
    shape: Shape

    @classmethod
    def whole(cls, shape: Sequence[int]) -> "Box":
        """All of an array of this shape."""
        return cls((0,) * len(shape), tuple(shape))

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    def meet(self, other: "Box") -> "Box | None":
        """What both cover, in the same axes; None if that is nothing."""
        low = tuple(map(max, self.offset, other.offset))
        high = (min(a + n, b + m) for a, n, b, m in zip(*self, *other, strict=True))
        shape = tuple(end - start for start, end in zip(low, high, strict=True))
        return Box(low, shape) if all(n > 0 for n in shape) else None

    def inside(self, outer: "Box") -> tuple[slice, ...]:
        """Where this box lies in an array that holds `outer`."""
        return tuple(slice(start - base, start - base + n) for start, n, base in zip(*self, outer.offset, strict=True))

    def run(self, start: int, numel: int) -> list["Box"]:
        """Elements [start, start + numel) of this box, flattened in C order, as boxes of the same parameter: in order,
        each whole in the run, at most 2n - 1 for n axes.
        """
        if not 0 <= start <= start + numel <= self.numel:
            raise ValueError(f"elements {start} to {start + numel} of a box of {self.numel}")
        if numel == 0:
            return []
        if len(self.shape) < 2:
            return [Box((self.offset[0] + start,), (numel,))] if self.shape else [self]
        row = Box(self.offset[1:], self.shape[1:])
        first, before = divmod(start, row.numel)
        last, after = divmod(start + numel, row.numel)

        def part_of(index: int, begin: int, length: int) -> list[Box]:
            at = self.offset[0] + index
            return [Box((at, *inner.offset), (1, *inner.shape)) for inner in row.run(begin, length)]

        if first == last:
            return part_of(first, before, numel)
        head = part_of(first, before, row.numel - before) if before else []
        low = first + 1 if before else first
        middle = [Box((self.offset[0] + low, *row.offset), (last - low, *row.shape))] if last > low else []
        return head + middle + (part_of(last, 0, after) if after else [])


class StateKey(NamedTuple):
    """What one tensor of a shard is."""

    name: str
    """Global name of the parameter."""
    state: str
    """MASTER, or the optimizer's name of the state."""
    box: Box


@dataclass(frozen=True)
class Piece:
    """A run of elements of this rank's part of a parameter, and where this rank holds it."""

    name: str
    shape: Shape
    """Of the whole parameter."""
    part: Box
    """What the mesh leaves to this rank, before any further cut: all of the parameter where nothing but ZeRO cuts."""
    start: int
    """First element, in the flattened `part`."""
    numel: int
    buffer: Tensor
    """Flat float32 tensor that holds the master weights (a view, live)."""
    offset: int
    """Where the piece begins in `buffer` and in the optimizer states of the same length."""

    def of(self, state: Tensor) -> Tensor:
        """The piece's elements of a state that lies like `buffer`: a flat view."""
        return state.view(-1).narrow(0, self.offset, self.numel)

    def boxes(self, state: Tensor) -> Iterator[tuple[Box, Tensor]]:
        """The same elements as boxes of the parameter, each with its view in the shape of the box."""
        flat, at = self.of(state), 0
        for box in self.part.run(self.start, self.numel):
            yield box, flat[at : at + box.numel].view(box.shape)
            at += box.numel


@dataclass(frozen=True)
class StateShard:
    """One rank's part of the state, and the numbers every rank has. Together, the ranks' boxes cover every parameter
    once.
    """

    tensors: dict[StateKey, Tensor]
    """Float32, each in the shape of its box."""
    shapes: dict[str, Shape]
    """Of the whole parameters that `tensors` has boxes of."""
    scalars: dict[str, float] = field(default_factory=dict)

    def copied(self) -> "StateShard":
        """The tensors in host memory, safe to write while training goes on."""
        tensors = {key: tensor.detach().to("cpu", copy=True) for key, tensor in self.tensors.items()}
        return StateShard(tensors, dict(self.shapes), dict(self.scalars))


class Want(NamedTuple):
    """A box of a saved parameter, and the tensor that it is to be read into."""

    key: StateKey
    out: Tensor
    """In the shape of the box, on any device."""


class ShardSource(Protocol):
    """A saved state: any box of any parameter."""

    @property
    def scalars(self) -> Mapping[str, float]:
        """The numbers saved beside the tensors."""

    def states(self, name: str) -> set[str]:
        """The states there are of a parameter (MASTER and the optimizer's)."""

    def read(self, wants: Sequence[Want]) -> None:
        """Fill the tensors. All at once rather than one by one: the source reads files in their own order, and what
        lies together together.
        """


class BoxIndex:
    """Boxes of one array, to be asked for those that meet another. Disjoint boxes of a grid are found in O(log n) along
    the axis that is cut most often, plus one vectorised comparison of those that share the cut.
    """

    def __init__(self, offsets: npt.NDArray[np.int64], shapes: npt.NDArray[np.int64]) -> None:
        """Both (boxes, axes)."""
        ends = offsets + shapes
        axes = range(offsets.shape[1])
        self._axis = max(axes, key=lambda axis: len(np.unique(offsets[:, axis])), default=None)
        order = np.arange(len(offsets)) if self._axis is None else np.argsort(offsets[:, self._axis], kind="stable")
        self._order, self._offsets, self._ends = order, offsets[order], ends[order]
        # Ends do not rise with the offsets where boxes differ in size; their running maximum does.
        self._furthest = np.empty(0) if self._axis is None else np.maximum.accumulate(self._ends[:, self._axis])

    @classmethod
    def of(cls, boxes: Sequence[Box]) -> "BoxIndex":
        """Of at least one box."""
        offsets, shapes = (np.array(x, np.int64).reshape(len(boxes), -1) for x in zip(*boxes, strict=True))
        return cls(offsets, shapes)

    def meeting(self, box: Box) -> npt.NDArray[np.int64]:
        """Indexes of the boxes that share an element with `box`, ascending."""
        if self._axis is None:  # an array without axes has one element
            return self._order
        start, length = np.array(box.offset), np.array(box.shape)
        low = np.searchsorted(self._furthest, start[self._axis], side="right")
        high = np.searchsorted(self._offsets[:, self._axis], start[self._axis] + length[self._axis], side="left")
        here = slice(int(low), int(max(low, high)))
        common = np.minimum(self._ends[here], start + length) > np.maximum(self._offsets[here], start)
        return np.sort(self._order[here][common.all(axis=1)])
