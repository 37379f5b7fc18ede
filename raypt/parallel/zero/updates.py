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

from raypt.parallel.mesh import Group, Mesh
from raypt.parallel.zero.exact import norm
from raypt.parallel.zero.gradients import Gradients
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

    @abstractmethod
    def close(self) -> None:
        """Take back the hooks that parameters were given. Not collective."""


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

    def close(self) -> None:
        """See Updates."""
        self.gradients.close()

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
