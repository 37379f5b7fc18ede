"""The engine of a worker that makes its own updates and meets the others' weights every so many steps.

A worker holds the weights it trains, a copy that the model computes with, the gradient, the optimizer's states, the
weights all began with and the outer momentum: with AdamW in fp32, 28 bytes a parameter. An outer step is one all-reduce
of the weights. In between, the workers exchange some hundred bytes a step: which samples they train on, losses, whether
a gradient is finite. So they wait for the slowest at every step, as data parallelism does.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from raypt.model.batch import MicroBatch
from raypt.parallel import comm
from raypt.parallel.agreement import Agreed, Offer, agree_in_step
from raypt.parallel.config import LocalSgdConfig
from raypt.parallel.engine import BatchLoss, StepResult
from raypt.parallel.flat.replica import Replica
from raypt.parallel.flat.slice import MakeOptimizer, SliceState, Snapshot
from raypt.parallel.local_sgd.exchange import Exchange, UnderWay
from raypt.parallel.local_sgd.outer import Outer, due
from raypt.parallel.state import MASTER, OUTER, ShardSource, StateKey, StateShard, Want
from raypt.parallel.topology import Topology


class LocalSgdEngine:
    """Inner steps of each worker on its own samples, outer steps of all together. The process group must exist. A new
    engine holds no values: `restore` it.

    A worker's inner gradient is that of its own mean loss. The differences are weighted by the valid tokens that each
    worker has trained on (McMahan et al. 2017), so that one inner step of plain SGD is data parallelism.
    """

    def __init__(
        self,
        replica: Replica,
        *,
        topology: Topology,
        config: LocalSgdConfig,
        optimizer: MakeOptimizer,
        clip_norm: float | None,
    ) -> None:
        assert topology.world_size == topology.data_size, "each worker holds a whole model"
        self.topology, self.replica, self.config = topology, replica, config
        self.module, self.device, self.timing = replica.module, replica.device, replica.begin()
        flat = replica.flat
        self.whole = flat.cut(1)[0]
        self.inner = SliceState(flat, self.whole, optimizer, clip_norm)
        self.outer = Outer(flat.numel, lr=config.outer_lr, momentum=config.outer_momentum)
        self.fragments = flat.cut(config.fragments)
        self.owned = flat.cut(topology.world_size)[topology.rank]
        """What this rank writes of what all hold alike."""
        self._exchange = Exchange(bits=config.outer_bits, delayed=config.delay_steps > 0, device=self.device)
        self._whole = Exchange(bits=32, delayed=False, device=self.device)
        self._under_way: list[UnderWay] = []
        self._tokens = [0] * config.fragments
        """This worker's, since the difference of each fragment was taken."""
        self._steps = 0
        """Since all of them were exchanged together."""

    def agree(self, offer: Offer) -> Agreed:
        """See TrainEngine."""
        return agree_in_step(self.topology, offer, self.device)

    def forward_backward(self, micro_batches: Sequence[MicroBatch]) -> BatchLoss:
        """See TrainEngine: the loss of each worker's samples under its own weights, added up."""
        self.timing = self.replica.begin()
        self.timing.sent_bytes = 0
        self._own_tokens = sum(m.tokens for m in micro_batches)
        sums = self.replica.passes(micro_batches, self._own_tokens)
        with self.replica.timed("communication"):
            loss_sum, z_sum, tokens = comm.all_reduce_floats([*sums.tolist(), self._own_tokens], self.device)
        return BatchLoss(loss_sum, z_sum, round(tokens))

    def step(self, lr_scale: float, max_norm: float | None = None) -> StepResult:
        """See TrainEngine. The norm is the root of the mean square over the workers, each of which clips its own."""
        with self.replica.timed("step"):
            gradient = self.replica.gradient.cpu()
            square = self.inner.square(gradient)
            mean = comm.all_reduce_floats([square / self.topology.world_size], self.device)[0]
            if not math.isfinite(mean):
                return StepResult(None, skipped=True)
            if max_norm is not None and math.sqrt(mean) > max_norm:
                return StepResult(math.sqrt(mean), skipped=True)
            self.inner.update(gradient, math.sqrt(square), lr_scale)
            self._steps += 1
            self._tokens = [t + self._own_tokens for t in self._tokens]
            for fragment in due(self._steps, self.config.every_steps, len(self.fragments)):
                self._begin(fragment)
            while self._under_way and self._steps - self._under_way[0].begun >= self.config.delay_steps:
                self._end(self._under_way.pop(0))
            self._publish()
        return StepResult(math.sqrt(mean), skipped=False)

    def discard(self) -> StepResult:
        """See TrainEngine."""
        return StepResult(None, skipped=True)

    def _publish(self) -> None:
        self.replica.weights.copy_(self.inner.weights)

    def _cut(self, fragment: int) -> slice:
        cut = self.fragments[fragment]
        return slice(cut.start, cut.start + cut.numel)

    @torch.no_grad()
    def _begin(self, fragment: int) -> None:
        """Collective: take a fragment's difference and send it."""
        at, own = self._cut(fragment), self._tokens[fragment]
        everyone = comm.all_reduce_floats([own], self.device)[0]
        self._tokens[fragment] = 0
        difference = (self.outer.weights[at] - self.inner.weights[at]).mul_(own / max(everyone, 1))
        self._under_way.append(self._exchange.begin(fragment, self._steps, difference))

    @torch.no_grad()
    def _end(self, given: UnderWay) -> None:
        """The outer step of a fragment. A worker that has trained on meanwhile keeps a share of where it stands."""
        with self.replica.timed("communication"):
            self._sent(given.sent.result())
        at = self._cut(given.fragment)
        start = self.outer.step(at, given.difference)
        own = self.config.delay_mix if self._steps > given.begun else 0.0
        self.inner.weights[at] = start if own == 0 else torch.lerp(start, self.inner.weights[at], own)

    def _sent(self, nbytes: int) -> None:
        self.timing.sent_bytes = (self.timing.sent_bytes or 0) + nbytes

    def _meet(self) -> None:
        """Collective: an outer step of whatever has not been exchanged, and the mean of the optimizers' states, so that
        all workers go on from one state, as they would from a checkpoint of it.
        """
        while self._under_way:
            self._end(self._under_way.pop(0))
        for fragment in range(len(self.fragments)):
            if comm.all_reduce_floats([self._tokens[fragment]], self.device)[0]:
                self._begin(fragment)
                self._end(self._under_way.pop())
        self._steps = 0
        snapshot = self.inner.snapshot()
        states = dict(snapshot.states)
        for name in sorted(states.keys() - {MASTER}):
            mean = torch.from_numpy(states[name]).div_(self.topology.world_size)
            self._sent(self._whole.sum(mean))
            states[name] = mean.numpy()
        self.inner.load(Snapshot(states, snapshot.scalars))
        self._publish()

    def evaluate(self, micro_batches: Sequence[MicroBatch]) -> list[float]:
        """See TrainEngine. Between outer steps each worker's losses are of its own weights."""
        return self.replica.evaluate(micro_batches)

    def shard(self) -> StateShard:
        """See TrainEngine. An outer step, where there have been inner steps since the last one."""
        self._meet()
        snapshot = self.inner.snapshot()
        tensors: dict[StateKey, Tensor] = {}
        flats = {name: torch.from_numpy(values) for name, values in snapshot.states.items()}
        for state, flat in {**flats, OUTER: self.outer.velocity}.items():
            own = self.owned.of(flat)
            for segment in self.owned.segments:
                for box, view in segment.piece(own).boxes(own):
                    tensors[StateKey(segment.name, state, box)] = view
        return StateShard(tensors, {s.name: s.shape for s in self.owned.segments}, dict(snapshot.scalars))

    def restore(self, source: ShardSource) -> None:
        """See TrainEngine. From a checkpoint of another strategy, without outer momentum."""
        names = {state for s in self.whole.segments for state in source.states(s.name)} | {MASTER, OUTER}
        states = {state: torch.zeros(self.whole.numel) for state in sorted(names)}
        wants = [
            Want(StateKey(segment.name, state, box), view)
            for segment in self.whole.segments
            for state in source.states(segment.name)
            for box, view in segment.piece(states[state]).boxes(states[state])
        ]
        source.read(wants)
        self.outer.velocity = states.pop(OUTER)
        self.outer.weights = states[MASTER].clone()
        arrays: dict[str, np.ndarray] = {name: flat.numpy() for name, flat in states.items()}
        self.inner.load(Snapshot(arrays, dict(source.scalars) if len(states) > 1 else {}))
        self._tokens, self._steps, self._under_way = [0] * len(self.fragments), 0, []
        self._publish()
