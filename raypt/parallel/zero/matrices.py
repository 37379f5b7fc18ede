"""Whole matrices for optimizers that need them, where ZeRO has cut the parameters into flat pieces over the ranks."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor

from raypt.parallel.comm_clock import CLOCK
from raypt.parallel.mesh import Group
from raypt.parallel.state import Box, Piece, Shape


@runtime_checkable
class WantsMatrices(Protocol):
    """An optimizer whose update of a matrix is no function of each element alone."""

    def bind(self, matrices: "Callable[[], Matrices]") -> None:
        """Called once before the first step; `matrices` may be asked for from the first step on."""


@dataclass(frozen=True)
class _Cut:
    """What a rank of the group holds of a matrix: boxes end to end, from `offset` on in its flat buffer."""

    name: str
    shape: Shape
    """Of the whole matrix."""
    rank: int
    boxes: tuple[Box, ...]
    numel: int
    offset: int

    def views(self, whole: Tensor, flat: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Each box in the whole matrix, and in a flat tensor of the cut's elements."""
        at = 0
        for box in self.boxes:
            yield whole[box.inside(Box.whole(self.shape))], flat[at : at + box.numel].view(box.shape)
            at += box.numel


class Matrices:
    """Maps a function of whole matrices over a flat buffer that holds this rank's cuts of them.

    Each matrix has an owner, the rank with the least work so far: the cuts go to it, it computes, and the cuts of the
    result come back. Two exchanges of the buffer's elements a call, and every matrix is computed once, whatever the
    number of ranks. Making one is collective.
    """

    def __init__(self, buffers: Sequence[Tensor], pieces: Sequence[Piece], group: Group, device: torch.device) -> None:
        """`buffers` in an order that is the same on all ranks of the group, which hold the matrices together, some of
        them maybe the same elements; `device` is where collectives run.
        """
        self.buffers, self.group, self.device = buffers, group, device
        number = {id(buffer): i for i, buffer in enumerate(buffers)}
        mine = [
            (
                number[id(p.buffer)],
                _Cut(p.name, p.shape, group.rank, tuple(p.part.run(p.start, p.numel)), p.numel, p.offset),
            )
            for p in pieces
            if len(p.shape) == 2
        ]
        everyone: list[list[tuple[int, _Cut]]] = [[] for _ in range(group.size)]
        dist.all_gather_object(everyone, mine, group=group.handle)
        self._cuts: list[list[_Cut]] = [[] for _ in buffers]
        for rank in everyone:
            for i, cut in rank:
                self._cuts[i].append(cut)
        self._owner = [_share_out({c.name: c.shape for c in cuts}, group.size) for cuts in self._cuts]

    @torch.no_grad()
    def map(self, buffer: Tensor, values: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """`values` lie like `buffer`, one of `buffers`; so does the result, zero where there is no matrix. Collective:
        all ranks call it for the same buffer. `function` keeps the shape.
        """
        index = next(i for i, other in enumerate(self.buffers) if other is buffer)
        cuts, owner, rank = self._cuts[index], self._owner[index], self.group.rank
        to = [[c for c in cuts if c.rank == rank and owner[c.name] == r] for r in range(self.group.size)]
        by = [[c for c in cuts if c.rank == r and owner[c.name] == rank] for r in range(self.group.size)]
        sent = _joined([values[c.offset : c.offset + c.numel] for r in to for c in r], values)
        got = self._exchange(sent, to, by)
        wholes = {c.name: got.new_empty(c.shape) for c in cuts if owner[c.name] == rank}
        for cut, part in _parts(got, by):
            for there, here in cut.views(wholes[cut.name], part):
                there.copy_(here)
        for name, whole in wholes.items():
            wholes[name] = function(whole)
        for cut, part in _parts(got, by):
            for there, here in cut.views(wholes[cut.name], part):
                here.copy_(there)
        back = self._exchange(got, by, to).to(values.device)
        out = torch.zeros_like(values)
        for cut, part in _parts(back, to):
            out[cut.offset : cut.offset + cut.numel] = part
        return out

    def _exchange(self, sent: Tensor, to: Sequence[Sequence[_Cut]], by: Sequence[Sequence[_Cut]]) -> Tensor:
        out_sizes, in_sizes = ([sum(c.numel for c in r) for r in cuts] for cuts in (to, by))
        got = torch.empty(sum(in_sizes), dtype=sent.dtype, device=self.device)
        with CLOCK:
            dist.all_to_all_single(got, sent.to(self.device), in_sizes, out_sizes, group=self.group.handle)
        return got


def _share_out(shapes: Mapping[str, Shape], world: int) -> dict[str, int]:
    """Name -> rank: the dearest matrix first, each to the rank with the least work (products of the smaller side)."""
    cost = {name: math.prod(shape) * min(shape) for name, shape in shapes.items()}
    load = [0] * world
    owner = {}
    for name in sorted(cost, key=lambda n: (-cost[n], n)):
        owner[name] = min(range(world), key=lambda r: (load[r], r))
        load[owner[name]] += cost[name]
    return owner


def _joined(parts: Sequence[Tensor], like: Tensor) -> Tensor:
    return torch.cat(list(parts)) if parts else like.new_empty(0)


def _parts(flat: Tensor, cuts: Sequence[Sequence[_Cut]]) -> list[tuple[_Cut, Tensor]]:
    """Each cut with its view of a flat tensor that holds them end to end, rank by rank."""
    out, at = [], 0
    for cut in (c for rank in cuts for c in rank):
        out.append((cut, flat[at : at + cut.numel]))
        at += cut.numel
    return out
