"""Gradients added up in the order of `tree`, in float32, at every ZeRO stage.

A rank keeps whole gradients: one buffer of all its parameters for each level that it adds up alone (and one at least).
Between ranks they travel once a step: each rank sends every other what that one holds, and adds what it got in the
tree's order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from raypt.parallel.comm_clock import CLOCK
from raypt.parallel.mesh import Group
from raypt.parallel.zero.exact.tree import Counter, fold, split
from raypt.parallel.zero.gradients import Flat, Gradients, _add

_CHUNK = 2**22
"""Elements that a rank sends at a time."""


@dataclass(frozen=True)
class Block:
    """A run of a flat buffer that all ranks of a group share out evenly: rank r takes the r-th of equal cuts."""

    start: int
    """In the flat buffer."""
    each: int
    """Elements of a cut."""
    at: int
    """Where the cut lies in what a rank holds of the flat buffer."""


class TreeGradients(Gradients):
    """The sums of a step. `blocks`: of each flat buffer, who takes what; with `whole`, every rank gets all of it."""

    def __init__(
        self,
        flats: Sequence[Flat],
        group: Group,
        micro_batches: int,
        blocks: Sequence[Sequence[Block]],
        *,
        whole: bool = False,
    ) -> None:
        super().__init__(flats, group, torch.float32)
        self.blocks, self.whole = blocks, whole
        self.together, self.alone = split(micro_batches, group.size)
        self.clear()

    def clear(self) -> None:
        """See Gradients."""
        self._sums: list[list[Tensor]] = []
        """Partial sums of all flat buffers, the newest last."""
        self._spare: list[list[Tensor]] = []
        self._came: set[tuple[int, int]] = set()
        self._counter = Counter(self.alone)

    def add(self, flat: int, at: int, grad: Tensor) -> None:
        """See Gradients."""
        if not self._came and self._counter.begins:
            self._sums.append(self._spare.pop() if self._spare else [self._zeros(f, grad.device) for f in self.flats])
        into = self._sums[-1][flat][at : at + grad.numel()]
        self._came.add((flat, at))
        if self._counter.begins:
            into.copy_(grad)
        else:
            _add(into, grad)

    def end_micro_batch(self) -> None:
        """See Gradients."""
        places = {(i, at) for i, flat in enumerate(self.flats) for _, at in flat.parameters}
        assert self._came == places, "a parameter without a gradient"
        self._came.clear()
        for _ in range(self._counter.next()):
            upper = self._sums.pop()
            for below, above in zip(self._sums[-1], upper, strict=True):
                below.add_(above)
            self._spare.append(upper)

    def finish(self) -> list[Tensor]:
        """See Gradients."""
        (sums,) = self._sums
        self.clear()
        return [self._over_ranks(i, sums[i]) for i in range(len(sums))]

    def _zeros(self, flat: Flat, device: torch.device) -> Tensor:
        return torch.zeros(flat.numel, dtype=torch.float32, device=device)

    def _over_ranks(self, index: int, own: Tensor) -> Tensor:
        """This rank's cuts of the sum over all, or with `whole` the sum itself."""
        size = self.group.size
        if size == 1:
            return own
        out = own.new_zeros(own.numel() // size)
        for block in self.blocks[index]:
            rows = own[block.start : block.start + size * block.each].view(size, block.each)
            width = max(1, _CHUNK // size)
            for low in range(0, block.each, width):
                sent = rows[:, low : low + width].contiguous()
                got = torch.empty_like(sent)
                with CLOCK:
                    dist.all_to_all_single(got, sent, group=self.group.handle)
                out[block.at + low : block.at + low + sent.shape[1]] = fold(list(got), self.together)
        if not self.whole:
            return out
        with CLOCK:
            dist.all_gather_into_tensor(own, out, group=self.group.handle)
        return own
