"""A stage's actions of one step, in a schedule's order: activations come from the stage before, gradients from the one
after. Sending does not wait; receiving does, and what a rank waits for is in its schedule before it is in its own.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
import torch.distributed as dist
from torch import Tensor

from raypt.model.batch import MicroBatch
from raypt.model.llama import Targets
from raypt.parallel.comm_clock import CLOCK
from raypt.parallel.mesh import Group
from raypt.parallel.pipeline.schedule import Action
from raypt.parallel.pipeline.stage import Stage

Shape = tuple[int, int, int]


class Runner:
    """One rank's stage in its pipeline."""

    def __init__(self, stage: Stage, group: Group, cut_positions: int, device: torch.device) -> None:
        """`cut_positions`: ranks that share out the positions between layers (sequence parallelism)."""
        self.stage, self.group, self.cut_positions, self.device = stage, group, cut_positions, device
        self.dtype = next(stage.model.parameters()).dtype
        self._sent: list[tuple[dist.Work | None, Tensor]] = []

    def run(
        self,
        actions: Sequence[Action],
        micro_batches: Sequence[MicroBatch],
        targets: Callable[[MicroBatch], Targets],
        scale: float,
        timed: Callable[[str], AbstractContextManager[None]],
    ) -> Tensor:
        """Gradients of the losses times `scale`, into the parameters; the sums of loss and squared log-partition,
        which the last stage alone knows, float64.
        """
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        held: dict[int, tuple[Tensor | None, Tensor]] = {}
        for kind, _, m in actions:
            with timed(kind):
                if kind == "forward":
                    x_BSE = self._received(micro_batches[m], self.stage.first, -1)
                    out = self.stage.hidden(micro_batches[m], x_BSE.requires_grad_() if x_BSE is not None else None)
                    if self.stage.last:
                        out, z = self.stage.loss(out, targets(micro_batches[m]))
                        sums += torch.stack((out.detach(), z.detach())).double()
                    else:
                        self._send(out.detach(), 1)
                    held[m] = (x_BSE, out)
                else:
                    x_BSE, out = held.pop(m)
                    if self.stage.last:
                        (out * scale).backward()
                    else:
                        out.backward(self._received(micro_batches[m], False, 1))
                    if x_BSE is not None:
                        assert x_BSE.grad is not None
                        self._send(x_BSE.grad, -1)
        with timed("communication"):
            self._settle()
        return sums

    @torch.no_grad()
    def losses(self, micro_batches: Sequence[MicroBatch], targets: Callable[[MicroBatch], Targets]) -> Tensor:
        """The loss of each, on every rank of the pipeline."""
        out = torch.zeros(len(micro_batches), dtype=torch.float32, device=self.device)
        for m, micro in enumerate(micro_batches):
            hidden = self.stage.hidden(micro, self._received(micro, self.stage.first, -1))
            if self.stage.last:
                out[m] = self.stage.loss(hidden, targets(micro))[0]
            else:
                self._send(hidden, 1)
        self._settle()
        with CLOCK:
            dist.broadcast(out, src=self.group.ranks[-1], group=self.group.handle)
        return out

    def _received(self, micro: MicroBatch, nothing: bool, step: int) -> Tensor | None:
        if nothing:
            return None
        b, s = micro.tokens_BS.shape
        width = self.stage.model.config.hidden_size
        x_BSE = torch.empty(b, s // self.cut_positions, width, dtype=self.dtype, device=self.device)
        with CLOCK:
            dist.recv(x_BSE, src=self.group.ranks[self.group.rank + step], group=self.group.handle)
        return x_BSE

    def _send(self, x_BSE: Tensor, step: int) -> None:
        self._sent = [(work, x) for work, x in self._sent if work is not None and not work.is_completed()]
        x_BSE = x_BSE.contiguous()  # gloo sends nothing else
        to = self.group.ranks[self.group.rank + step]
        self._sent.append((dist.isend(x_BSE, dst=to, group=self.group.handle), x_BSE))

    def _settle(self) -> None:
        with CLOCK:
            for work, _ in self._sent:
                if work is not None:
                    work.wait()
        self._sent = []
