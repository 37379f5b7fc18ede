"""From the gradients of a step to new weights, at each ZeRO stage.

At stages 0 to 2 the gradients are summed, measured, clipped and applied here; DeepSpeed lays out the partitions and the
buffers. At stage 3 all of it is DeepSpeed's, but where sums have one order (`exact`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from raypt.parallel import comm
from raypt.parallel.mesh import Group, Mesh
from raypt.parallel.zero.exact import norm
from raypt.parallel.zero.exact.gradients import Block, TreeGradients
from raypt.parallel.zero.gradients import Flat, Gradients, PartGradients, WholeGradients
from raypt.parallel.zero.update import Cut, adamw, adamw_state, divisor, square_sum

Counts = Callable[[nn.Parameter], bool]
"""Whether this rank counts a parameter in the global norm: exactly one of those that hold the same elements does."""


class Updates(ABC):
    """What one stage does at the end of a step. Every method is collective."""

    @abstractmethod
    def end_micro_batch(self) -> None:
        """A backward pass is done."""

    @abstractmethod
    def finish(self) -> None:
        """The last micro-batch is done: add the gradients up over the ranks."""

    @abstractmethod
    def step(self, max_norm: float | None = None) -> float | None:
        """Clip, update, and publish the weights; the norm before clipping, or None if the gradients are not finite. In
        that case, and if the norm is above `max_norm`, nothing was changed.
        """

    @abstractmethod
    def discard(self) -> None:
        """Forget the gradients."""


class SummedHere(Updates):
    """Stages 0 to 2, and 3 too where the sums have one order: `exact` is then the number of micro-batches of a step."""

    def __init__(
        self, engine: Any, mesh: Mesh, clip_norm: float | None, counts: Counts, exact: int | None = None
    ) -> None:
        self.exact = exact
        self.engine, self.mesh, self.clip_norm, self.counts = engine, mesh, clip_norm, counts
        self.optimizer, self.inner = engine.optimizer, engine.basic_optimizer
        self._update: Callable[[], Any] = self.inner.step
        engine.enable_backward_allreduce = False
        for hook in getattr(self.optimizer, "_grad_acc_hooks", ()):
            hook.remove()
        for master in self.masters():
            master.grad = None  # offloading allocates one
        self.in_blocks = type(self.inner) is torch.optim.AdamW and all(m.device.type == "cpu" for m in self.masters())
        self.gradients = self.make_gradients()
        self._sums: list[Tensor] = []
        self._norm: float | None = None
        self._max_norm: float | None = None
        self.optimizer.step = self._apply  # engine.step() calls it, and keeps its own counters

    @abstractmethod
    def make_gradients(self) -> Gradients:
        """What the hooks add up in."""

    @abstractmethod
    def masters(self) -> list[Tensor]:
        """The float32 weights that this rank updates."""

    def groups(self) -> list[dict[str, Any]]:
        """The optimizer's group that each of `masters` is of."""
        group_of = {id(p): group for group in self.inner.param_groups for p in group["params"]}
        return [group_of[id(master)] for master in self.masters()]

    @abstractmethod
    def gradients_of(self, sums: Sequence[Tensor]) -> list[Tensor]:
        """The gradient of each of `masters`."""

    @abstractmethod
    def lows(self) -> list[Tensor | None]:
        """For each of `masters`: where the weights are computed with, if that is not the master itself."""

    @abstractmethod
    def counted(self, sums: Sequence[Tensor]) -> Iterable[Tensor]:
        """What this rank adds to the square of the norm; each element of the model is counted by one rank of those that
        `over_ranks` adds up.
        """

    @abstractmethod
    def over_ranks(self, square: Tensor) -> None:
        """Add the squares of the ranks that count different elements, in place."""

    @abstractmethod
    def held(self, sums: Sequence[Tensor]) -> list[tuple[Tensor, int]]:
        """What this rank has of each parameter's gradient, maybe nothing, and how many elements the whole one has; the
        parameters of all ranks in one order. For `exact`.
        """

    @property
    def holders(self) -> Group | None:
        """The ranks between which `held` is cut; None where each holds everything."""
        return self.mesh.gradient

    def gather(self) -> None:
        """Bring the updated weights to the ranks that need them."""

    def end_micro_batch(self) -> None:
        """See Updates."""
        self.gradients.end_micro_batch()

    def finish(self) -> None:
        """See Updates."""
        self._sums = self.gradients.finish()

    def step(self, max_norm: float | None = None) -> float | None:
        """See Updates."""
        self._max_norm = max_norm
        self.engine.step()
        return self._norm

    def discard(self) -> None:
        """See Updates."""
        self.gradients.clear()
        self._sums = []

    @torch.no_grad()
    def _apply(self) -> None:
        sums, self._sums = self._sums, []
        found = self._square(sums) ** 0.5
        self._norm = found if math.isfinite(found) else None
        if self._norm is None or (self._max_norm is not None and found > self._max_norm):
            return
        scale = divisor(found, self.clip_norm)
        grads = self.gradients_of(sums)
        if self.in_blocks:
            self._adamw(grads, scale)
        else:
            self._whole(grads, scale)
        del grads, sums
        self.gather()

    def _square(self, sums: Sequence[Tensor]) -> float:
        """Of the norm."""
        device = self.engine.device
        if self.exact is not None:
            pieces, counts = zip(*self.held(sums), strict=True)
            return norm.square_sum(pieces, counts, self.holders, device)
        square = torch.tensor(square_sum(self.counted(sums)), dtype=torch.float64, device=device)
        self.over_ranks(square)
        return float(square)

    def _adamw(self, grads: Sequence[Tensor], scale: float) -> None:
        for master, group, grad, low in zip(self.masters(), self.groups(), grads, self.lows(), strict=True):
            state = adamw_state(self.inner, master)
            step = state["step"].add_(1)
            moments = (state[name].view(-1) for name in ("exp_avg", "exp_avg_sq"))
            flat = None if low is None else low.view(-1)
            cut = Cut(master.detach().view(-1), grad.reshape(-1), flat, *moments)
            adamw(group, step, [cut], scale, alike=self.exact is not None)

    def _whole(self, grads: Sequence[Tensor], scale: float) -> None:
        masters, lows = self.masters(), self.lows()
        for master, grad in zip(masters, grads, strict=True):
            master.grad = (grad if scale == 1.0 else grad.div_(scale)).to(master.device).view_as(master)
        self._update()
        for master, low in zip(masters, lows, strict=True):
            master.grad = None
            if low is not None:
                low.data.copy_(master)


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
