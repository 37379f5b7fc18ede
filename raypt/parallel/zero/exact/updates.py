"""Stage 3 with sums of one order: DeepSpeed cuts and gathers the weights, all else is done here as at stages 0 to 2."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from raypt.parallel.mesh import Mesh
from raypt.parallel.zero.exact.gradients import Block, TreeGradients
from raypt.parallel.zero.gradients import Flat, Gradients
from raypt.parallel.zero.updates import SummedHere


class ExactParameterUpdates(SummedHere):
    """Each rank updates its cut of each parameter. Nothing is offloaded."""

    def __init__(
        self, engine: Any, mesh: Mesh, clip_norm: float | None, counts: Callable[[nn.Parameter], bool], exact: int
    ) -> None:
        super().__init__(engine, mesh, clip_norm, counts, exact)
        self._update = self._update_each

    def _update_each(self) -> None:
        for i in range(len(self.masters())):
            self.optimizer._optimizer_step(i)

    def _places(self) -> list[list[tuple[nn.Parameter, int, int]]]:
        """Of each group, its parameters, each with the place and the length of a rank's cut in the group's buffer."""
        outer = self.optimizer
        out: list[list[tuple[nn.Parameter, int, int]]] = [[] for _ in self.masters()]
        for parameter in self.engine.module.parameters():
            group, at, each = outer.grad_position[outer.get_param_id(parameter)]
            out[group].append((parameter, at, each))
        return [sorted(places, key=lambda place: place[1]) for places in out]

    def make_gradients(self) -> Gradients:
        """See SummedHere."""
        size = self.mesh.gradient.size
        flats, blocks = [], []
        for master, places in zip(self.masters(), self._places(), strict=True):
            flats.append(Flat(size * master.numel(), tuple((p, size * at) for p, at, _ in places)))
            blocks.append([Block(size * at, each, at) for _, at, each in places])
        assert self.exact is not None
        return TreeGradients(flats, self.mesh.gradient, self.exact, blocks)

    def masters(self) -> list[Tensor]:
        """See SummedHere."""
        return list(self.optimizer.fp32_partitioned_groups_flat)

    def lows(self) -> list[Tensor | None]:
        """See SummedHere; `gather` writes them."""
        return [None for _ in self.masters()]

    def groups(self) -> list[dict[str, Any]]:
        """See SummedHere; DeepSpeed takes the parameters out of the optimizer's own lists."""
        of = self.optimizer.sub_group_to_group_id
        return [self.inner.param_groups[of[i]] for i in range(len(self.masters()))]

    def gradients_of(self, sums: Sequence[Tensor]) -> list[Tensor]:
        """See SummedHere."""
        return list(sums)

    def counted(self, sums: Sequence[Tensor]) -> Iterable[Tensor]:
        """See SummedHere."""
        return sums

    def over_ranks(self, square: Tensor) -> None:
        """See SummedHere."""
        raise AssertionError("the norm is taken over `held`")

    def held(self, sums: Sequence[Tensor]) -> list[tuple[Tensor, int]]:
        """See SummedHere."""
        rank, out = self.mesh.gradient.rank, []
        for part, places in zip(sums, self._places(), strict=True):
            for parameter, at, each in places:
                numel: int = parameter.ds_numel  # type: ignore[attr-defined]
                here = min(max(numel - rank * each, 0), each)
                out.append((part[at : at + here], numel))
        return out

    @torch.no_grad()
    def _apply(self) -> None:
        outer = self.optimizer
        outer._pre_step()
        outer._partition_all_parameters()
        super()._apply()
        outer.overflow, outer._global_grad_norm = self._norm is None, self._norm

    def gather(self) -> None:
        """See SummedHere."""
        for group in range(len(self.masters())):
            self.optimizer._reassign_or_swap_out_partitioned_parameters(group)
        self.optimizer._post_step(set())

    def discard(self) -> None:
        """See SummedHere."""
        super().discard()
        self.optimizer._pre_step()
        self.optimizer._partition_all_parameters()
