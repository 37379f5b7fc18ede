"""Whole matrices for optimizers that need them, where ZeRO has cut the parameters into flat pieces over the ranks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor

from raypt.parallel.comm_clock import CLOCK
from raypt.parallel.state import Piece


@runtime_checkable
class WantsMatrices(Protocol):
    """An optimizer whose update of a matrix is no function of each element alone."""

    def bind(self, matrices: "Callable[[], Matrices]") -> None:
        """Called once before the first step; `matrices` may be asked for from the first step on."""


@dataclass(frozen=True)
class _Cut:
    """Elements [start, start + numel) of a flattened matrix, on `rank`, at `offset` of its flat buffer."""

    name: str
    rank: int
    start: int
    numel: int
    offset: int


class Matrices:
    """Maps a function of whole matrices over a flat buffer that holds this rank's cuts of them.

    Each matrix has an owner, the rank with the least work so far: the cuts go to it, it computes, and the cuts of the
    result come back. Two exchanges of the buffer's elements a call, and every matrix is computed once, whatever the
    number of ranks. Making one is collective.
    """

    def __init__(
        self, shapes: Mapping[str, torch.Size], buffers: Sequence[Tensor], pieces: Sequence[Piece], device: torch.device
    ) -> None:
        """`shapes` of whole parameters, `buffers` in an order that is the same on all ranks; `device` is where
        collectives run.
        """
        self.shapes, self.buffers, self.device = shapes, buffers, device
        self.rank, world = dist.get_rank(), dist.get_world_size()
        number = {id(buffer): i for i, buffer in enumerate(buffers)}
        mine = [
            (number[id(p.buffer)], _Cut(p.name, self.rank, p.start, p.numel, p.offset))
            for p in pieces
            if len(shapes[p.name]) == 2
        ]
        everyone: list[list[tuple[int, _Cut]]] = [[] for _ in range(world)]
        dist.all_gather_object(everyone, mine)
        self._cuts: list[list[_Cut]] = [[] for _ in buffers]
        for rank in everyone:
            for i, cut in rank:
                self._cuts[i].append(cut)
        self._owner = [_share_out({c.name: shapes[c.name] for c in cuts}, world) for cuts in self._cuts]
        self.world = world

    @torch.no_grad()
    def map(self, buffer: Tensor, values: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """`values` lie like `buffer`, one of `buffers`; so does the result, zero where there is no matrix. Collective:
        all ranks call it for the same buffer. `function` keeps the shape.
        """
        index = next(i for i, other in enumerate(self.buffers) if other is buffer)
        cuts, owner = self._cuts[index], self._owner[index]
        to = [[c for c in cuts if c.rank == self.rank and owner[c.name] == r] for r in range(self.world)]
        by = [[c for c in cuts if c.rank == r and owner[c.name] == self.rank] for r in range(self.world)]
        sent = _joined([values[c.offset : c.offset + c.numel] for r in to for c in r], values)
        got = self._exchange(sent, to, by)
        wholes = {name: got.new_empty(self.shapes[name].numel()) for name in owner if owner[name] == self.rank}
        for cut, part in _parts(got, by):
            wholes[cut.name][cut.start : cut.start + cut.numel] = part
        for name, whole in wholes.items():
            wholes[name] = function(whole.view(self.shapes[name])).reshape(-1)
        for cut, part in _parts(got, by):
            part.copy_(wholes[cut.name][cut.start : cut.start + cut.numel])
        back = self._exchange(got, by, to).to(values.device)
        out = torch.zeros_like(values)
        for cut, part in _parts(back, to):
            out[cut.offset : cut.offset + cut.numel] = part
        return out

    def _exchange(self, sent: Tensor, to: Sequence[Sequence[_Cut]], by: Sequence[Sequence[_Cut]]) -> Tensor:
        out_sizes, in_sizes = ([sum(c.numel for c in r) for r in cuts] for cuts in (to, by))
        got = torch.empty(sum(in_sizes), dtype=sent.dtype, device=self.device)
        with CLOCK:
            dist.all_to_all_single(got, sent.to(self.device), in_sizes, out_sizes)
        return got


def _share_out(shapes: Mapping[str, torch.Size], world: int) -> dict[str, int]:
    """Name -> rank: the dearest matrix first, each to the rank with the least work (products of the smaller side)."""
    cost = {name: shape.numel() * min(shape) for name, shape in shapes.items()}
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
