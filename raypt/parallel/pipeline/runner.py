"""A rank's actions of one step, in a schedule's order. Sending does not wait; receiving does, and what a rank waits for
is in its schedule before it is in its own.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor

from raypt.model.batch import MicroBatch
from raypt.model.llama import KVCache, Targets
from raypt.parallel import comm
from raypt.parallel.comm_clock import CLOCK
from raypt.parallel.mesh import Group
from raypt.parallel.pipeline.activations import ActivationMeter
from raypt.parallel.pipeline.record import DeviceRecord, StepRecord, Taken
from raypt.parallel.pipeline.schedule import Action, Name, forward_turns, is_split, schedule_of
from raypt.parallel.pipeline.stage import Stage
from raypt.parallel.pipeline.transport import Key, Transport
from raypt.parallel.pipeline.weights import PutOff, Work, split

Timed = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class Plan:
    """How the stages of a pipeline take their turns."""

    schedule: Name
    virtual: int
    """Stages of a rank."""
    micro_batches: int
    """Of a step."""

    def actions(self, devices: int) -> tuple[tuple[Action, ...], ...]:
        """Of each rank of a pipeline."""
        return schedule_of(self.schedule, devices, self.micro_batches, self.virtual)


class Runner:
    """One rank's stages in its pipeline."""

    def __init__(
        self, stages: Sequence[Stage], plan: Plan, group: Group, cut_positions: int, device: torch.device
    ) -> None:
        """`cut_positions`: ranks that share out the positions between layers (sequence parallelism)."""
        self.plan, self.group, self.cut_positions, self.device = plan, group, cut_positions, device
        self.parts = {group.rank + i * group.size: stage for i, stage in enumerate(stages)}
        self.actions = plan.actions(group.size)[group.rank]
        self.model = stages[0].model
        self.dtype = next(self.model.parameters()).dtype
        self.transport = Transport(group, group.size * len(stages))
        self.put_off = PutOff()
        if is_split([self.actions]):
            split((block for stage in stages for block in stage.blocks), self.put_off)

    def run(
        self,
        micro_batches: Sequence[MicroBatch],
        targets: Callable[[MicroBatch], Targets],
        scale: float,
        timed: Timed,
        record: bool = False,
    ) -> tuple[Tensor, StepRecord | None]:
        """Gradients of the losses times `scale`, into the parameters; the sums of loss and squared log-partition,
        which the last stage alone knows, float64. With `record`, when everything was done.
        """
        assert len(micro_batches) == self.plan.micro_batches
        step = _Step(self, micro_batches, targets, scale, timed)
        if not record:
            step.take_all()
            return step.sums, None
        step.recorded = True
        meter = ActivationMeter(self.model.parameters())
        step.watch = self.put_off.watch = meter.watch
        with CLOCK:
            dist.barrier(self.group.handle)  # the devices' clocks may differ: their zero is here
        step.zero = time.perf_counter()
        with meter.watching(block for stage in self.parts.values() for block in stage.blocks):
            step.take_all()
        self.put_off.watch = lambda tensor: None
        layers = tuple(len(stage.blocks) for stage in self.parts.values())
        every = comm.gather_objects(DeviceRecord(step.taken, meter.peak, layers), self.group)
        return step.sums, StepRecord(
            self.plan.schedule,
            self.plan.virtual,
            devices=tuple(tuple(device.taken) for device in every),
            peak_bytes=tuple(device.peak_bytes for device in every),
            layers=tuple(device.layers for device in every),
        )

    @torch.no_grad()
    def outputs(
        self,
        micro_batches: Sequence[MicroBatch],
        output: Callable[[Callable[[Targets], Tensor], MicroBatch], Tensor],
        shapes: Sequence[tuple[int, ...]],
        cache: KVCache | None = None,
    ) -> list[Tensor]:
        """What `output` makes of each micro-batch's output layer, in float32 and of those shapes, on every rank of the
        pipeline. Without gradients. `cache`: of this rank's only stage, for a single micro-batch that continues it.
        """
        assert cache is None or len(micro_batches) == len(self.parts) == 1
        flat = torch.zeros(sum(map(math.prod, shapes)), dtype=torch.float32, device=self.device)
        out = [x.view(shape) for x, shape in zip(flat.split([*map(math.prod, shapes)]), shapes, strict=True)]
        for i, m in forward_turns(self.group.size, len(micro_batches), len(self.parts)):
            part, micro = self.group.rank + i * self.group.size, micro_batches[m]
            stage, x_BSE = self.parts[part], None
            if (key := self.expect(Action("forward", part, m), micro)) is not None:
                x_BSE = self.transport.received(key)
            hidden = stage.hidden(micro, x_BSE, cache)
            if stage.last:
                out[m].copy_(output(partial(_first, stage, hidden), micro))
            else:
                self.transport.send(hidden, Key("forward", part + 1, m))
        self.transport.settle()
        with CLOCK:
            dist.broadcast(flat, src=self.group.ranks[-1], group=self.group.handle)
        return out

    def expect(self, action: Action, micro: MicroBatch) -> Key | None:
        """Ask for what an action needs from another rank; None if it is nothing."""
        kind, part, m = action
        stage = self.parts[part]
        if kind == "forward" and not stage.first:
            key, source = Key("forward", part, m), part - 1
        elif kind == "backward" and not stage.last:
            key, source = Key("backward", part, m), part + 1
        else:
            return None
        b, s = micro.tokens_BS.shape
        shape = b, s // self.cut_positions, self.model.config.hidden_size
        self.transport.expect(key, source, lambda: torch.empty(shape, dtype=self.dtype, device=self.device))
        return key


def _first(stage: Stage, hidden_BSE: Tensor, targets: Targets) -> Tensor:
    return stage.loss(hidden_BSE, targets)[0]


class _Step:
    """What lives as long as one step."""

    def __init__(
        self,
        runner: Runner,
        micro_batches: Sequence[MicroBatch],
        targets: Callable[[MicroBatch], Targets],
        scale: float,
        timed: Timed,
    ) -> None:
        self.runner, self.micro_batches, self.targets = runner, micro_batches, targets
        self.scale, self.timed = scale, timed
        self.sums = torch.zeros(2, dtype=torch.float64, device=runner.device)
        self.recorded = False
        self.taken: list[Taken] = []
        self.zero = 0.0
        self.watch: Callable[[Tensor], None] = lambda tensor: None
        self._held: dict[tuple[int, int], tuple[Tensor | None, Tensor]] = {}
        self._work: dict[tuple[int, int], list[Work]] = {}

    def take_all(self) -> None:
        """Every action of the rank."""
        run = {"forward": self._forward, "backward": self._backward, "weight": self._weight}
        actions = self.runner.actions
        self._expect(actions[0])
        for action, following in zip(actions, [*actions[1:], None], strict=True):
            with self.timed("forward" if action.kind == "forward" else "backward"):
                key = self._expect(action)
                if following is not None:
                    self._expect(following)
                got = None if key is None else self.runner.transport.received(key)
                with self._noted(action):
                    run[action.kind](action, got)
        with self.timed("communication"):
            self.runner.transport.settle()

    def _expect(self, action: Action) -> Key | None:
        return self.runner.expect(action, self.micro_batches[action.micro])

    @contextmanager
    def _noted(self, action: Action) -> Iterator[None]:
        if not self.recorded:
            yield
            return
        begin = time.perf_counter()
        yield
        if self.runner.device.type == "cuda":
            torch.cuda.synchronize(self.runner.device)  # until then the action is only queued
        self.taken.append(Taken(action, begin - self.zero, time.perf_counter() - self.zero))

    def _forward(self, action: Action, x_BSE: Tensor | None) -> None:
        _, part, m = action
        stage, micro = self.runner.parts[part], self.micro_batches[m]
        if x_BSE is not None:
            self.watch(x_BSE.requires_grad_())
        out = stage.hidden(micro, x_BSE)
        if stage.last:
            out, z = stage.loss(out, self.targets(micro))
            self.sums += torch.stack((out.detach(), z.detach())).double()
        else:
            self.runner.transport.send(out.detach(), Key("forward", part + 1, m))
        self.watch(out)
        self._held[part, m] = (x_BSE, out)

    def _backward(self, action: Action, grad_BSE: Tensor | None) -> None:
        _, part, m = action
        x_BSE, out = self._held.pop((part, m))
        if grad_BSE is None:
            (out * self.scale).backward()
        else:
            out.backward(grad_BSE)
        if x_BSE is not None:
            assert x_BSE.grad is not None
            self.runner.transport.send(x_BSE.grad, Key("backward", part - 1, m))
        self._work[part, m] = self.runner.put_off.taken()

    def _weight(self, action: Action, nothing: Tensor | None) -> None:
        for work in self._work.pop((action.part, action.micro)):
            work()
