"""Seconds of a training step of several shapes, in turn, on ranks of this machine: the real engine on random tokens.

All engines live side by side and the rounds go over them, so that a machine that is slow for a while is so for all.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from raypt.training.config import TrainConfig
from raypt.training.on_ray.environment import worker_environment


@dataclass(frozen=True)
class StepCase:
    """A model and the batch of a rank."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    length: int
    micro_batch: int = 1
    accumulation: int = 1
    checkpointing: str = "none"

    @property
    def model(self) -> dict[str, Any]:
        return {
            "hidden_size": self.hidden, "intermediate_size": self.intermediate, "num_layers": self.layers,
            "num_heads": self.heads, "num_kv_heads": self.kv_heads, "vocab_size": self.vocab,
            "max_length": self.length, "tie_embeddings": False,
        }  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """What one launch found; of rank 0, with all ranks at work."""

    wall: list[list[float]]
    """Seconds of each case's step in each round."""
    cpu: list[list[float]]
    """Those of them in which the thread that trains was on a CPU."""
    flops: float
    """A second, of a large matrix product."""
    bandwidth: float
    """Bytes a second, read and written, of a large copy."""
    link: float
    """Bytes a second that a rank sends in an all-reduce; 0 where it is alone."""
    threads: int
    """Of a rank."""

    @property
    def alone(self) -> bool:
        """Whether a rank computes in one thread, whose CPU time is told apart from what other processes took."""
        return self.threads == 1

    @property
    def compute_s(self) -> list[float]:
        """The shortest of each case: what other processes take comes on top. If `alone`, on a CPU, without waiting for
        other ranks; else the seconds that went by."""
        return [min(took) for took in (self.cpu if self.alone else self.wall)]

    @property
    def wall_s(self) -> list[float]:
        """The shortest of each case, waiting included."""
        return [min(took) for took in self.wall]

    @property
    def had(self) -> float:
        """Of the seconds that went by in the usual step, those that the thread was on a CPU."""
        return statistics.median(
            c / w for cpu, wall in zip(self.cpu, self.wall, strict=True) for c, w in zip(cpu, wall, strict=True)
        )

    def of(self, cases: int) -> "Measured":
        """The first cases only."""
        return replace(self, wall=self.wall[:cases], cpu=self.cpu[:cases])


def measure_steps(
    cases: Sequence[StepCase], *, workers: int, threads: int, precision: str, budget_s: float, stage: int = 1
) -> Measured:
    """Rounds over all cases for about `budget_s`, three at least, after one that warms up."""
    environment = worker_environment(TrainConfig(), threads) | {"DEEPSPEED_LOG_LEVEL": "error"}
    with tempfile.TemporaryDirectory() as directory:
        task, out = Path(directory) / "task.json", Path(directory) / "out.json"
        told = {"threads": threads, "precision": precision, "budget_s": budget_s, "stage": stage}
        task.write_text(json.dumps({"cases": [asdict(c) for c in cases], **told}))
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}"]
        code = subprocess.call(
            [*torchrun, "-m", "raypt.bench.steps", "--task", str(task), "--out", str(out)],
            stdout=sys.stderr,
            env=os.environ | environment | {"PYTHONWARNINGS": "ignore"},
        )
        if code:
            raise SystemExit(f"torchrun ended with {code}")
        return Measured(**json.loads(out.read_text()))


def _rank(task: dict[str, Any], out: Path) -> None:
    import torch
    import torch.distributed as dist

    from raypt.parallel import comm
    from raypt.training.worker import quiet_libraries

    torch.set_num_threads(task["threads"])
    quiet_libraries()
    device = comm.init_process_group(use_gpu=False)
    runs = [_step(StepCase(**c), task, device) for c in task["cases"]]
    for run in runs:
        run()
    took: list[list[float]] = [[] for _ in runs]
    worked: list[list[float]] = [[] for _ in runs]
    rates: list[list[float]] = [[], [], []]
    clock = time.thread_time if task["threads"] == 1 else time.perf_counter
    until = torch.tensor([time.perf_counter() + task["budget_s"]])
    while True:
        for run, seconds, cpu in zip(runs, took, worked, strict=True):
            comm.barrier()
            started, used = time.perf_counter(), time.thread_time()
            run()
            cpu.append(time.thread_time() - used)
            comm.barrier()
            seconds.append(time.perf_counter() - started)
        comm.barrier()
        rates[0].append(_product(task["precision"], clock))
        rates[1].append(_copy(clock))
        if dist.get_world_size() > 1:
            rates[2].append(_link())
        more = torch.tensor([float(len(took[0]) < 3 or time.perf_counter() < float(until))])
        dist.broadcast(more, 0)
        if not more.item():
            break
    if dist.get_rank() == 0:
        flops, bandwidth, link = (max(r) if r else 0.0 for r in rates)
        out.write_text(json.dumps(asdict(Measured(took, worked, flops, bandwidth, link, task["threads"]))))
    dist.barrier()
    dist.destroy_process_group()


def _step(case: StepCase, task: dict[str, Any], device: Any) -> Any:
    import numpy as np
    import torch.distributed as dist

    from raypt.model import ModelConfig
    from raypt.model.batch import micro_batch
    from raypt.parallel.config import ZeroConfig
    from raypt.parallel.initial_state import InitialState
    from raypt.parallel.mesh import Mesh
    from raypt.training.batch_plan import plan_batches
    from raypt.training.config import OptimizerConfig
    from raypt.training.engines import build_engine

    model, world = ModelConfig.model_validate(case.model), dist.get_world_size()
    tokens = case.length * case.micro_batch * case.accumulation * world
    train = TrainConfig(
        workers=world,
        micro_batch_size=case.micro_batch,
        global_batch_tokens=tokens,
        precision=task["precision"],
        activation_checkpointing=case.checkpointing,
        optimizer=OptimizerConfig(lr=3e-4),
        zero=ZeroConfig.model_validate({"stage": task["stage"]}),
    )
    plan = plan_batches(
        global_batch_tokens=tokens,
        sequence_length=case.length,
        micro_batch_size=case.micro_batch,
        data_size=world,
    )
    engine = build_engine(model, train, plan, Mesh.of_data_ranks(), device=device)
    engine.restore(InitialState(model, 0))
    random = np.random.default_rng(dist.get_rank())
    batches = []
    for _ in range(case.accumulation):
        rows = random.integers(0, case.vocab, (case.micro_batch, case.length + 1))
        batches.append(
            micro_batch({"tokens": rows, "segments": np.ones_like(rows), "sample_index": np.arange(case.micro_batch)})
        )

    def run() -> None:
        engine.forward_backward(batches)
        engine.step(1.0)

    return run


def _product(precision: str, clock: Callable[[], float], size: int = 1024) -> float:
    import torch

    a, b = torch.ones(2, size, size, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    a @ b
    started = clock()
    a @ b
    return 2 * size**3 / (clock() - started)


def _copy(clock: Callable[[], float], size: int = 32 << 20) -> float:
    import torch

    there, here = torch.ones(size // 4), torch.empty(size // 4)
    here.copy_(there)
    started = clock()
    here.copy_(there)
    return 2 * size / (clock() - started)


def _link(elements: int = 4_000_000) -> float:
    import torch
    import torch.distributed as dist

    world = dist.get_world_size()
    sums = torch.ones(elements)
    dist.barrier()
    started = time.perf_counter()
    dist.all_reduce(sums)
    return 2 * 4 * elements * (world - 1) / world / (time.perf_counter() - started)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    _rank(json.loads(chosen.task.read_text()), chosen.out)
