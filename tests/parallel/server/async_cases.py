"""What the rank of the asynchronous servers' tests does."""

import os
import random
import signal
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from raypt.model.batch import MicroBatch, micro_batch
from raypt.parallel import comm
from raypt.parallel.agreement import Offer
from raypt.parallel.config import ParameterServerConfig
from raypt.parallel.engine import Update
from raypt.parallel.flat.replica import Replica
from raypt.parallel.initial_state import InitialState
from raypt.parallel.server.async_engine import AsyncServerEngine
from raypt.parallel.server.crew import Crew, CrewPlan
from raypt.parallel.state import MASTER
from raypt.parallel.topology import Topology
from raypt.storage import read_parquet
from raypt.training.checkpoint.directory import latest_checkpoint
from raypt.training.loop import Hooks
from raypt.training.optim.optimizer import build_optimizer
from raypt.training.records import merge_samples, read_metrics, read_updates
from raypt.training.worker import run_worker
from tests.parallel import cases
from tests.parallel.server.cases import replica, server_engine
from tests.training import tiny_run
from tests.training.scenarios import rows as rows_of
from tests.training.scenarios import spec_for

WORKERS, STEPS, BOUND, RATE = 2, 200, 2, 0.25
ROWS = 2
"""Samples of a lease."""
DATA = cases.samples()
KILLED = 1
"""The worker that is."""


def plain(worker: int) -> Replica:
    return replica()


class Delayed(Replica):
    """Of a worker that is slow at random, and now and then very."""

    def passes(self, micro_batches: Any, tokens: int) -> torch.Tensor:
        time.sleep(random.uniform(0, 0.004) + (0.05 if random.random() < 0.03 else 0))
        return super().passes(micro_batches, tokens)


def delayed(worker: int) -> Replica:
    random.seed(os.getpid())
    out = replica()
    out.__class__ = Delayed
    return out


def engine_for(make: Any, workers: int, **config: Any) -> AsyncServerEngine:
    engine = AsyncServerEngine(
        replica().flat,
        make,
        topology=Topology(),
        config=ParameterServerConfig(cpus_per_server=0.1, **config),
        optimizer=partial(build_optimizer, config=cases.OPTIMIZER),
        clip_norm=cases.OPTIMIZER.clip_norm,
        weights_dtype=torch.float32,
        crew=CrewPlan(workers, cpus=0.1, threads=1, max_failures=3),
        rate=lambda step: RATE,
        meets=lambda step: False,
        timeout_s=60,
        first_timeout_s=60,
    )
    engine.restore(InitialState(cases.MODEL, 0))
    return engine


def batch(step: int, workers: int) -> list[MicroBatch]:
    """A micro-batch a worker, of the cases' samples over and over."""
    tokens, segments = DATA
    out = []
    for at in range(workers):
        index = (step * workers + at) * ROWS + np.arange(ROWS)
        table = index % len(tokens)
        out.append(micro_batch({"tokens": tokens[table], "segments": segments[table], "sample_index": index}))
    return out


def one_step(engine: AsyncServerEngine, micro_batches: list[MicroBatch]) -> None:
    indexes = [i for m in micro_batches for i in m.sample_index_B.tolist()]
    engine.agree(Offer(np.array(indexes), len(indexes), indexes[0], np.zeros(1, np.int64)))
    engine.forward_backward(micro_batches)
    engine.step(1.0)


def listed(updates: list[Update]) -> list[dict[str, Any]]:
    return [asdict(u) for u in updates]


def state(engine: Any) -> list[float]:
    shard = engine.shard()
    keys = sorted(key for key in shard.tensors if key.state == MASTER)
    return torch.cat([shard.tensors[key].reshape(-1) for key in keys]).tolist()


def everything(address: str, directory: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    comm.init_process_group(use_gpu=False)
    ray.init(address=address, log_to_driver=False, logging_level="error")
    out: dict[str, Any] = {}

    sync = server_engine(1)
    sync.restore(InitialState(cases.MODEL, 0))
    out["sync"] = [[sync.forward_backward(batch(s, 1)).loss, sync.step(RATE).grad_norm] for s in range(cases.STEPS)]
    out["sync-weights"] = state(sync)
    out["sync-evaluated"] = sync.evaluate(batch(0, 3))
    alone = engine_for(plain, 1, staleness=1)
    alone.leases.staleness = 0  # in lock step: each gradient under the weights that the one before has made
    for step in range(cases.STEPS):
        one_step(alone, batch(step, 1))
    out["alone-evaluated"] = alone.evaluate(batch(0, 3))
    out["alone"] = [[u.update.loss_sum / u.update.tokens, u.update.norm] for u in alone.take_updates()]
    out["alone-weights"] = state(alone)
    del sync, alone

    engine = engine_for(
        delayed,
        WORKERS,
        servers=2,
        staleness=BOUND,
        staleness_rate=True,
        gradient_dtype="bf16",
        overlap_pull=True,
    )
    for step in range(STEPS):
        one_step(engine, batch(step, WORKERS))
    engine.shard()
    out["updates"] = listed([a.update for a in engine.take_updates()])

    del engine
    out["run"] = with_a_killed_worker(Path(directory))
    return out


def with_a_killed_worker(directory: Path) -> dict[str, Any]:
    """A whole run under the train loop, with checkpoints and evaluations, a worker of which is killed while it computes
    its fifth gradient.
    """
    data, run = directory / "data", directory / "run"
    tiny_run.prepare(data)
    compute = Crew.compute
    held: list[int] = []

    def killing(crew: Crew, worker: int, grant: int, micro_batches: Any, **options: bool) -> None:
        actor = crew._workers[worker].actor
        pid = ray.get(actor.__ray_call__.remote(lambda self: os.getpid())) if worker == KILLED else 0
        compute(crew, worker, grant, micro_batches, **options)
        if worker == KILLED:
            held.append(int(micro_batches[0].sample_index_B[0]))
            if len(held) == 5:
                os.kill(pid, signal.SIGKILL)

    config = tiny_run.train_config().model_copy(
        update={
            "strategy": "parameter_server",
            "parameter_server": ParameterServerConfig(cpus_per_server=0.1, staleness=BOUND),
            "cpus_per_worker": 0.1,
        }
    )
    Crew.compute = killing  # type: ignore[method-assign]
    try:
        run_worker(spec_for(data, run, config), rows_of(data, 0, 1, 0, tiny_run.STEPS * tiny_run.BATCH), Hooks())
    finally:
        Crew.compute = compute  # type: ignore[method-assign]
    merge_samples(str(run))
    newest = latest_checkpoint(str(run / "checkpoints"))
    assert newest is not None
    return {
        "held": held[4],
        "samples": read_parquet(str(run / "samples.parquet")).column("sample_index").to_pylist(),
        "updates": read_updates(str(run))
        .select(["step", "worker", "first_sample", "samples", "stale_steps"])
        .to_pylist(),
        "metrics": read_metrics(str(run)),
        "newest": [newest.step, newest.cursor.next_sample],
    }
