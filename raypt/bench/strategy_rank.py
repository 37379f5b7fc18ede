"""One rank of the strategies' benchmark, a Ray actor: the real engine of a strategy over workers that pause."""

import datetime
import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor

from raypt.bench.collective_start import RankActor
from raypt.bench.straggler import Pattern
from raypt.model import ModelConfig
from raypt.model.batch import MicroBatch, micro_batch
from raypt.parallel import comm
from raypt.parallel.agreement import Offer
from raypt.parallel.engine import Asynchronous, TrainEngine
from raypt.parallel.flat.replica import Replica
from raypt.parallel.initial_state import InitialState
from raypt.parallel.mesh import Mesh
from raypt.training.batch_plan import plan_batches
from raypt.training.config import TrainConfig
from raypt.training.engines import asynchronous_servers, build_engine
from raypt.training.optim.schedule import lr_scale

TOKENS, HELDOUT = 256, 128
"""Different tokens of the text; samples of the held-out loss of the small shape."""


@dataclass(frozen=True)
class Shape:
    """A model and its samples."""

    model: ModelConfig
    length: int
    micro_batch: int
    """Samples of a gradient."""
    heldout: int


SHAPES = {
    "small": Shape(
        ModelConfig(
            vocab_size=TOKENS, hidden_size=64, intermediate_size=176, num_layers=2, num_heads=4, num_kv_heads=2,
            max_length=64,
        ),
        length=64, micro_batch=2, heldout=HELDOUT,
    ),
    "medium": Shape(
        ModelConfig(
            vocab_size=8000, hidden_size=256, intermediate_size=704, num_layers=6, num_heads=8, num_kv_heads=4,
            max_length=128, tie_embeddings=False,
        ),
        length=128, micro_batch=2, heldout=16,
    ),
    "train": Shape(
        ModelConfig(
            vocab_size=32000, hidden_size=512, intermediate_size=1408, num_layers=8, num_heads=8, num_kv_heads=4,
            max_length=512, tie_embeddings=False,
        ),
        length=512, micro_batch=4, heldout=4,
    ),
}  # fmt: skip
"""`train` is that of `bench.py train`: 56 M parameters. `medium` has 8 M, and about as many a token of a gradient."""


@dataclass(frozen=True)
class Strategy:
    """What is measured."""

    name: str
    strategy: str
    """Value of `train.strategy`."""
    section: dict[str, Any] = field(default_factory=dict)
    """Of its section of the configuration."""

    @property
    def staleness(self) -> int | None:
        """How many steps a worker may be ahead of the slowest, for its limit; of local SGD 0, since its workers agree
        on each step.
        """
        found: int | None = self.section.get("staleness", 0)
        return found


@dataclass(frozen=True)
class Task:
    """How long, and of what."""

    workers: int
    shape: str
    pattern: Pattern
    seconds: float | None
    """From the end of the first steps on; None = until `steps`."""
    steps: int
    """At most."""
    lr: float = 3e-3
    precision: str = "fp32"

    @property
    def sizes(self) -> Shape:
        return SHAPES[self.shape]


@dataclass
class Found:
    """What a strategy did; of the first rank."""

    gradients: int = 0
    seconds: float = 0.0
    """Without the first steps, which pay for starts."""
    times: list[float] = field(default_factory=list)
    """Seconds since the first gradient, of each point of the loss."""
    counts: list[int] = field(default_factory=list)
    """Gradients by then."""
    losses: list[float] = field(default_factory=list)
    heldout: float = 0.0
    """Nats a token, at the end."""
    sent_bytes: int = 0
    """By one worker, on average over all, in all."""
    tokens: int = 0
    stale_steps: int = 0
    """Most of any update."""
    stale_versions: float = 0.0
    """Mean."""


class Text:
    """Random text with something to learn: what follows a token depends on it, and little else is likely."""

    def __init__(self, length: int) -> None:
        self.length, random = length, np.random.default_rng(0)
        self._cumulative = random.dirichlet(np.full(TOKENS, 0.02), TOKENS).cumsum(axis=1)

    def batch(self, first: int, samples: int) -> MicroBatch:
        """Samples from the first on; the same ones for the same numbers."""
        index = np.arange(first, first + samples)
        draws = np.stack([np.random.default_rng([7, i]).random(self.length + 1) for i in range(first, first + samples)])
        tokens = np.empty((samples, self.length + 1), np.int64)
        tokens[:, 0] = (draws[:, 0] * TOKENS).astype(np.int64)
        for at in range(1, self.length + 1):
            reached: npt.NDArray[np.bool_] = self._cumulative[tokens[:, at - 1]] < draws[:, at : at + 1]
            tokens[:, at] = reached.sum(axis=1).clip(max=TOKENS - 1)
        return micro_batch({"tokens": tokens, "segments": np.ones_like(tokens), "sample_index": index})


class Pausing(Replica):
    """Of an asynchronous worker."""

    pauses: list[float]

    def passes(self, micro_batches: Any, tokens: int) -> Tensor:
        time.sleep(self.pauses.pop() if self.pauses else 0.0)
        return super().passes(micro_batches, tokens)


def pausing(make: Callable[[int], Replica], task: Task, worker: int) -> Replica:
    """A worker's replica, which pauses before each gradient."""
    out = make(worker)
    out.__class__ = Pausing
    assert isinstance(out, Pausing)
    out.pauses = task.pattern.pauses(worker, task.workers * task.steps)[::-1]
    return out


class StrategyRank(RankActor):
    """One rank of the process group: a worker, or the leader of asynchronous ones."""

    def measure(self, strategy: Strategy, task: Task, rank: int, ranks: int, meeting: str) -> Found:
        """Collective."""
        torch.set_num_threads(1)
        host, port = meeting.removeprefix("tcp://").rsplit(":", 1)
        # DeepSpeed asks the environment who it is, or looks for MPI.
        os.environ |= {
            "RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_RANK": "0", "MASTER_ADDR": host.strip("[]"),
            "MASTER_PORT": port, "DS_ACCELERATOR": "cpu", "DEEPSPEED_LOG_LEVEL": "error",
        }  # fmt: skip
        dist.init_process_group(
            "gloo", init_method=meeting, rank=rank, world_size=ranks, timeout=datetime.timedelta(seconds=300)
        )
        config = train_config(strategy, task)
        plan = plan_batches(
            global_batch_tokens=config.global_batch_tokens, sequence_length=task.sizes.length,
            micro_batch_size=task.sizes.micro_batch, data_size=ranks,
        )  # fmt: skip
        mesh, device = Mesh.of_data_ranks(), torch.device("cpu")
        engine = (
            asynchronous_servers(task.sizes.model, config, mesh, device, wrap=lambda make: partial(pausing, make, task))
            if config.asynchronous
            else build_engine(task.sizes.model, config, plan, mesh, device=device)
        )
        found = Course(engine, config, task, rank, ranks).run()
        # Its servers and workers end with it: the next strategy is not to share the machine with them.
        del engine
        gc.collect()
        dist.barrier()
        dist.destroy_process_group()
        return found


def train_config(strategy: Strategy, task: Task) -> TrainConfig:
    """The configuration of a run of that strategy."""
    own = {"collective": "zero"}.get(strategy.strategy, strategy.strategy)
    bases: dict[str, dict[str, Any]] = {"zero": {"stage": 0}, "parameter_server": {"cpus_per_server": 0.01}}
    settings: dict[str, Any] = {
        "steps": task.steps,
        "workers": task.workers,
        "cpus_per_worker": 0.01,
        "micro_batch_size": task.sizes.micro_batch,
        "global_batch_tokens": task.sizes.length * task.sizes.micro_batch * task.workers,
        "precision": task.precision,
        "optimizer": {"lr": task.lr},
        "schedule": {"kind": "constant", "warmup_steps": min(20, task.steps // 2)},
        "checkpoint": {"every_steps": None},
        "evaluation": {"every_steps": None},
        "strategy": strategy.strategy,
        own: {**bases.get(own, {}), **strategy.section},
    }
    return TrainConfig.model_validate(settings)


class Course:
    """A run of one engine, as the train loop would call it."""

    WARM_STEPS = 2

    def __init__(self, engine: TrainEngine, config: TrainConfig, task: Task, rank: int, ranks: int) -> None:
        self.engine, self.config, self.task, self.rank, self.ranks = engine, config, task, rank, ranks
        self.text = Text(task.sizes.length)
        self.found, self._began = Found(), 0.0
        self._pauses = task.pattern.pauses(rank, task.steps)
        self._leads = config.asynchronous

    def run(self) -> Found:
        task, found = self.task, self.found
        self.engine.restore(InitialState(task.sizes.model, 0))
        ended, step, gradients = False, 0, 0
        while not ended:
            if step == self.WARM_STEPS:
                self._settle()
                self._began, gradients = time.perf_counter(), found.gradients
            self._step(step)
            step += 1
            over = task.seconds is not None and step > self.WARM_STEPS and self._elapsed() >= task.seconds
            ended = bool(comm.broadcast_object(step >= task.steps or over))
        if task.seconds is None:
            self._settle()
        found.seconds, found.gradients = self._elapsed(), found.gradients - gradients
        self._settle()
        start = found.times[0]
        found.times = [at - start for at in found.times]
        found.heldout = self._heldout()
        found.tokens = step * task.workers * task.sizes.micro_batch * task.sizes.length
        return found

    def _elapsed(self) -> float:
        return time.perf_counter() - self._began

    def _settle(self) -> None:
        if isinstance(self.engine, Asynchronous):
            self.engine.drain()
            self._take()
        comm.barrier()

    def _step(self, step: int) -> None:
        """A step of each worker; asynchronous ones may be at another by then."""
        task, samples = self.task, self.task.sizes.micro_batch
        first = step * task.workers * samples
        mine = range(task.workers) if self._leads else [self.rank]
        micro_batches = [self.text.batch(first + worker * samples, samples) for worker in mine]
        index = np.concatenate([m.sample_index_B for m in micro_batches])
        self.engine.agree(Offer(index, index.size, first, np.zeros(1, np.int64)))
        if not self._leads:
            time.sleep(self._pauses[step])
        loss = self.engine.forward_backward(micro_batches).loss
        self.engine.step(lr_scale(self.config.schedule, step, task.steps))
        self.found.sent_bytes += self.engine.timing.sent_bytes or 0
        if self._leads:
            self._take()
        else:
            self.found.gradients += task.workers
            self._note(loss, time.perf_counter())

    def _take(self) -> None:
        assert isinstance(self.engine, Asynchronous)
        now, clock = time.perf_counter(), time.time()
        for applied in self.engine.take_updates():
            u, n = applied.update, self.found.gradients
            self.found.gradients += 1
            self.found.stale_steps = max(self.found.stale_steps, u.stale_steps)
            self.found.stale_versions += (u.stale_versions - self.found.stale_versions) / (n + 1)
            self._note(u.loss_sum / u.tokens, now - (clock - u.time))

    def _note(self, loss: float, at: float) -> None:
        self.found.times.append(at)
        self.found.counts.append(self.found.gradients)
        self.found.losses.append(loss)

    def _heldout(self) -> float:
        """Loss of samples that nobody has trained on, under one model: that of the last outer step of local SGD."""
        self.engine.shard()
        each = max(1, self.task.sizes.heldout // self.ranks)
        first = 10**9 + self.rank * each
        micro = self.text.batch(first, each)
        sums = comm.all_reduce_floats([*self.engine.evaluate([micro]), micro.tokens], torch.device("cpu"))
        return sums[0] / sums[1]
