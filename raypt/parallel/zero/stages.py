"""What `updates` does at each ZeRO stage, over the buffers that DeepSpeed has there."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from raypt.parallel import comm
from raypt.parallel.mesh import Group, Mesh
from raypt.parallel.zero.exact.gradients import Block, TreeGradients
from raypt.parallel.zero.gradients import Flat, Gradients, PartGradients, WholeGradients
from raypt.parallel.zero.updates import Counts, SummedHere, Updates


class ReplicatedUpdates(SummedHere):
    """Stage 0: every rank makes the same update of everything."""

    def __init__(
        self,
        engine: Any,
        mesh: Mesh,
        clip_norm: float | None,
        counts: Counts,
        travel: torch.dtype,
        exact: int | None = None,
    ) -> None:
        self._travel = travel
        self._mixed = engine.optimizer is not engine.basic_optimizer
        super().__init__(engine, mesh, clip_norm, counts, exact)

    def make_gradients(self) -> Gradients:
        """See SummedHere."""
        at, places = 0, []
        for p in self._computed():
            places.append((p, at))
            at += p.numel()
        if self.exact is not None:
            each = -(-at // self.mesh.gradient.size)
            flat = Flat(each * self.mesh.gradient.size, tuple(places))
            return TreeGradients([flat], self.mesh.gradient, self.exact, [[Block(0, each, 0)]], whole=True)
        return WholeGradients([Flat(at, tuple(places))], self.mesh.gradient, self._travel, scatter=False)

    def _computed(self) -> list[nn.Parameter]:
        """What the model computes with, in the order of `masters`."""
        groups = self.optimizer.fp16_groups if self._mixed else [g["params"] for g in self.inner.param_groups]
        return [p for group in groups for p in group]

    def masters(self) -> list[Tensor]:
        """See SummedHere."""
        return [p for group in self.inner.param_groups for p in group["params"]]

    def lows(self) -> list[Tensor | None]:
        """See SummedHere."""
        return [p if self._mixed else None for p in self._computed()]

    def gradients_of(self, sums: Sequence[Tensor]) -> list[Tensor]:
        """See SummedHere."""
        return [sums[0][at : at + p.numel()] for p, at in self.gradients.flats[0].parameters]

    def counted(self, sums: Sequence[Tensor]) -> Iterable[Tensor]:
        """See SummedHere."""
        places = self.gradients.flats[0].parameters
        if all(self.counts(p) for p, _ in places):
            return sums
        return [sums[0][at : at + p.numel()] for p, at in places if self.counts(p)]

    def held(self, sums: Sequence[Tensor]) -> list[tuple[Tensor, int]]:
        """See SummedHere."""
        return [(grad, grad.numel()) for grad in self.gradients_of(sums)]

    @property
    def holders(self) -> Group | None:
        """See SummedHere."""
        return None

    def over_ranks(self, square: Tensor) -> None:
        """See SummedHere."""
        if self.mesh.model.size > 1:
            comm.all_reduce(square, self.mesh.model)


class FlatUpdates(SummedHere):
    """Stages 1 and 2: each rank updates its part of the flat buffers, and the parts are gathered."""

    def __init__(
        self,
        engine: Any,
        mesh: Mesh,
        clip_norm: float | None,
        counts: Counts,
        travel: torch.dtype,
        exact: int | None = None,
        *,
        bucket: int,
    ) -> None:
        self._travel, self._bucket = travel, bucket
        super().__init__(engine, mesh, clip_norm, counts, exact)

    def make_gradients(self) -> Gradients:
        """See SummedHere."""
        outer = self.optimizer
        flats = [
            Flat(whole.numel(), tuple(zip(parameters, offsets, strict=True)))
            for whole, parameters, offsets in zip(
                outer.bit16_groups_flat, outer.round_robin_bit16_groups, outer.round_robin_bit16_offsets, strict=True
            )
        ]
        if self.exact is not None:
            blocks = [[Block(0, flat.numel // self.mesh.gradient.size, 0)] for flat in flats]
            return TreeGradients(flats, self.mesh.gradient, self.exact, blocks)
        if not outer.partition_gradients:
            return WholeGradients(flats, self.mesh.gradient, self._travel, scatter=True)
        devices = [master.device for master in self.masters()]
        return PartGradients(flats, self.mesh.gradient, self._travel, bucket=self._bucket, devices=devices)

    def masters(self) -> list[Tensor]:
        """See SummedHere."""
        return list(self.optimizer.single_partition_of_fp32_groups)

    def lows(self) -> list[Tensor | None]:
        """See SummedHere."""
        return [parts[self.mesh.gradient.rank] for parts in self.optimizer.parallel_partitioned_bit16_groups]

    def gradients_of(self, sums: Sequence[Tensor]) -> list[Tensor]:
        """See SummedHere."""
        return list(sums)

    def counted(self, sums: Sequence[Tensor]) -> Iterable[Tensor]:
        """See SummedHere."""
        for flat, part in zip(self.gradients.flats, sums, strict=True):
            first = self.mesh.gradient.rank * part.numel()
            places = flat.overlaps(first, first + part.numel())
            if all(self.counts(p) for p, _, _ in places):
                yield part
            else:
                yield from (part[low - first : high - first] for p, low, high in places if self.counts(p))

    def held(self, sums: Sequence[Tensor]) -> list[tuple[Tensor, int]]:
        """See SummedHere."""
        out = []
        for flat, part in zip(self.gradients.flats, sums, strict=True):
            first = self.mesh.gradient.rank * part.numel()
            for p, at in flat.parameters:
                low, high = (min(max(x - first, 0), part.numel()) for x in (at, at + p.numel()))
                out.append((part[low:high], p.numel()))
        return out

    def over_ranks(self, square: Tensor) -> None:
        """See SummedHere."""
        comm.all_reduce(square)

    def gather(self) -> None:
        """See SummedHere."""
        from deepspeed.runtime.utils import all_gather_dp_groups

        outer = self.optimizer
        all_gather_dp_groups(
            groups_flat=outer.bit16_groups_flat,
            partitioned_param_groups=outer.parallel_partitioned_bit16_groups,
            dp_process_group=outer.real_dp_process_group,
            start_alignment_factor=outer.nccl_start_alignment_factor,
            allgather_bucket_size=outer.allgather_bucket_size,
        )


class ParameterUpdates(Updates):
    """Stage 3: DeepSpeed sums in the type and sends in the type that its configuration says."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.optimizer = engine, engine.optimizer
        self._max_norm: float | None = None
        self._refused: float | None = None
        self._norm_groups = self.optimizer._get_norm_groups
        self.optimizer._get_norm_groups = self._bounded

    def _bounded(self) -> list[Any]:
        """The norm of each group, as DeepSpeed asks for them just before it clips and updates. -1 is its mark for a
        norm that is not finite, on which it leaves all as it was.
        """
        groups = self._norm_groups()
        norm = math.sqrt(math.fsum(float(g) ** 2 for g in groups)) / self.optimizer.loss_scale
        above = self._max_norm is not None and norm > self._max_norm and all(float(g) >= 0 for g in groups)
        self._refused = norm if above else None
        return [torch.tensor(-1.0, device=self.engine.device) for _ in groups] if above else groups

    def end_micro_batch(self) -> None:
        """See Updates."""

    def finish(self) -> None:
        """See Updates."""

    def step(self, max_norm: float | None = None) -> float | None:
        """See Updates."""
        self._max_norm, self._refused = max_norm, None
        self.engine.step()
        if self._refused is not None:
            return self._refused
        return None if self.optimizer.overflow else float(self.engine.get_global_grad_norm())

    def discard(self) -> None:
        """See Updates."""
        self.optimizer._pre_step()
        self.optimizer._partition_all_parameters()
        self.optimizer._overflow_clean_up(self.optimizer.loss_scale)

    def close(self) -> None:
        """See Updates: the hooks are DeepSpeed's."""
