"""Where DeepSpeed keeps the training state at each ZeRO stage, as pieces of globally named parameters.

Everything here reads or writes DeepSpeed's own buffers; it was written against version 0.19 and, with `updates`, is all
that reaches into them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from raypt.parallel.layout import Layout
from raypt.parallel.mesh import Group, Mesh
from raypt.parallel.state import MASTER, OUTER, Piece, Shape, ShardSource, StateKey, StateShard, Want
from raypt.parallel.zero.matrices import Matrices, WantsMatrices


class Partition(ABC):
    """The state that this rank holds under one stage."""

    on_disk = False
    """Whether the state passes through memory part by part."""

    def __init__(self, engine: Any, mesh: Mesh, layout: Layout) -> None:
        self.engine, self.mesh, self.layout = engine, mesh, layout
        self.optimizer = engine.optimizer
        self.inner: torch.optim.Optimizer = engine.basic_optimizer
        self.names = {id(p): name for name, p in engine.module.named_parameters()}
        if isinstance(self.inner, WantsMatrices) and (group := self.cut_over()) is not None:
            self.inner.bind(lambda: Matrices(self.buffers(), self.pieces(), group, self.engine.device))

    def cut_over(self) -> Group | None:
        """The ranks that hold a matrix together; None where each holds it whole."""
        return self.mesh.stage

    @abstractmethod
    def buffers(self) -> list[Tensor]:
        """The flat buffers that hold this rank's cuts, in an order that is the same on all ranks."""

    @abstractmethod
    def pieces(self) -> list[Piece]:
        """Every piece this rank holds."""

    def owned(self) -> list[Piece]:
        """The pieces this rank writes: each is written by one rank of those that hold it."""
        return [piece for piece in self.pieces() if self.layout[piece.name].counted]

    @abstractmethod
    def publish(self) -> None:
        """Bring the weights that the model computes with in line with the master weights."""

    def shard(self) -> StateShard:
        tensors: dict[StateKey, Tensor] = {}
        shapes: dict[str, Shape] = {}
        scalars: dict[str, float] = {}
        for pieces in self.at_hand(writing=False):
            for piece in pieces:
                shapes[piece.name] = piece.shape
                states = {MASTER: piece.buffer.detach()}
                for state, value in self.inner.state.get(piece.buffer, {}).items():
                    if not torch.is_tensor(value) or value.numel() != piece.buffer.numel() or value.dim() == 0:
                        scalars[state] = float(value)
                    else:
                        states[state] = value
                for state, value in states.items():
                    for box, view in piece.boxes(value):
                        tensors[StateKey(piece.name, state, box)] = self._lasting(view)
        return StateShard(tensors, shapes, scalars)

    def _lasting(self, view: Tensor) -> Tensor:
        """The same values after the next pieces have taken this one's place in memory."""
        return view.clone() if self.on_disk else view

    def at_hand(self, *, writing: bool) -> Iterator[list[Piece]]:
        """The pieces in one or several lists, each to be used only until the next is asked for."""
        yield self.pieces() if writing else self.owned()

    @torch.no_grad()
    def restore(self, source: ShardSource) -> None:
        for pieces in self.at_hand(writing=True):
            source.read([want for piece in pieces for want in self._wants(piece, source)])
        self.publish()

    def _wants(self, piece: Piece, source: ShardSource) -> Iterator[Want]:
        """What the piece takes from a saved state, into this rank's buffers; an optimizer's state is made for it."""
        targets = {MASTER: piece.buffer}
        if states := source.states(piece.name) - {MASTER, OUTER}:
            held = self.inner.state[piece.buffer]
            for name, value in source.scalars.items():
                held[name] = torch.tensor(value, dtype=torch.float32)
            for state in states:
                if state not in held:
                    held[state] = torch.zeros_like(piece.buffer)
                targets[state] = held[state]
        for state, target in targets.items():
            for box, view in piece.boxes(target):
                yield Want(StateKey(piece.name, state, box), view)

    def _piece(self, name: str, start: int, numel: int, buffer: Tensor, offset: int) -> Piece:
        """A run of this rank's part of a parameter."""
        part = self.layout[name]
        return Piece(name, part.shape, part.box, start, numel, buffer, offset)


class Replicated(Partition):
    """Stage 0: every rank holds everything; they share out the writing."""

    def __init__(self, engine: Any, mesh: Mesh, layout: Layout) -> None:
        super().__init__(engine, mesh, layout)
        if self.optimizer is not self.inner:
            # bf16: DeepSpeed allocates the optimizer state by a step on zero gradients, which decays the weights and
            # counts as the first update in Adam's bias correction.
            self.inner.state.clear()
            for low, high in self._copies():
                high.data.copy_(low.data)

    def _copies(self) -> list[tuple[Tensor, Tensor]]:
        """bf16: (weight computed with, fp32 master), in the optimizer's group order."""
        groups = zip(self.optimizer.fp16_groups, self.optimizer.fp32_groups, strict=True)
        return [pair for lows, highs in groups for pair in zip(lows, highs, strict=True)]

    def buffers(self) -> list[Tensor]:
        return [p for group in self.inner.param_groups for p in group["params"]]

    def cut_over(self) -> Group | None:
        """See Partition."""
        return self.mesh.tensor if self.mesh.tensor.size > 1 else None

    def pieces(self) -> list[Piece]:
        masters = list(self.engine.module.parameters())
        if self.optimizer is not self.inner:
            by_id = {id(low): high for low, high in self._copies()}
            masters = [by_id[id(p)] for p in masters]
        parameters = self.engine.module.named_parameters()
        return [
            self._piece(name, 0, master.numel(), master, 0)
            for (name, _), master in zip(parameters, masters, strict=True)
        ]

    def owned(self) -> list[Piece]:
        rank, size = self.mesh.gradient.rank, self.mesh.gradient.size
        return [piece for i, piece in enumerate(super().owned()) if i % size == rank]

    def publish(self) -> None:
        if self.optimizer is self.inner:
            return
        for low, high in self._copies():
            low.data.copy_(high.data)


class FlatPartition(Partition):
    """Stages 1 and 2: all parameters of a group in one flat buffer, cut evenly over the ranks."""

    def buffers(self) -> list[Tensor]:
        return list(self.optimizer.single_partition_of_fp32_groups)

    def pieces(self) -> list[Piece]:
        # Not by DeepSpeed's own links from parameters to buffers, which overlook `round_robin_gradients`.
        outer, out = self.optimizer, []
        cuts = zip(
            self.buffers(),
            outer.round_robin_bit16_groups,
            outer.round_robin_bit16_offsets,
            strict=True,
        )
        for buffer, parameters, places in cuts:
            first = self.mesh.gradient.rank * buffer.numel()
            for parameter, at in zip(parameters, places, strict=True):
                low, high = max(at, first), min(at + parameter.numel(), first + buffer.numel())
                if low < high:
                    name = self.names[id(parameter)]
                    out.append(self._piece(name, low - at, high - low, buffer, low - first))
        return out

    def publish(self) -> None:
        self.optimizer.update_lp_params()


class ParameterPartition(Partition):
    """Stage 3: each parameter cut evenly over the ranks, the last cut padded. State offloaded to nvme is on disk by
    groups, and only one of them in memory at a time.
    """

    def __init__(self, engine: Any, mesh: Mesh, layout: Layout) -> None:
        super().__init__(engine, mesh, layout)
        self.on_disk = engine.optimizer.swap_optimizer

    def at_hand(self, *, writing: bool) -> Iterator[list[Piece]]:
        outer = self.optimizer
        if writing:
            outer._partition_all_parameters()
        pieces = self.pieces() if writing else self.owned()
        for i, buffer in enumerate(outer.fp32_partitioned_groups_flat):
            swapped = outer._swappable_optimizer_subgroup(i)
            if swapped:
                outer._optimizer_states_and_gradient_swap_in(i)
            yield [piece for piece in pieces if piece.buffer is buffer]
            if writing:
                outer._reassign_or_swap_out_partitioned_parameters(i)
            if swapped and writing:
                outer._optimizer_states_and_gradient_swap_out(i)
            elif swapped:
                outer._release_swap_buffers(i)

    def buffers(self) -> list[Tensor]:
        return list(self.optimizer.fp32_partitioned_groups_flat)

    def pieces(self) -> list[Piece]:
        out = []
        rank = self.mesh.gradient.rank
        for parameter in self.engine.module.parameters():
            group, offset, numel = self.optimizer.grad_position[self.optimizer.get_param_id(parameter)]
            start = rank * numel
            held = min(numel, parameter.ds_numel - start)
            if held > 0:
                buffer = self.optimizer.fp32_partitioned_groups_flat[group]
                out.append(self._piece(self.names[id(parameter)], start, held, buffer, offset))
        return out

    def publish(self) -> None:
        self.optimizer.checkpoint_event_epilogue()


PARTITIONS: dict[int, type[Partition]] = {0: Replicated, 1: FlatPartition, 2: FlatPartition, 3: ParameterPartition}
