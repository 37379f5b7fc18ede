"""Ways to cut one model and one batch over the same ranks, side by side: tokens a second, and where the rest went.

All engines live at once and their steps are taken in turn, so that a machine that is slow for a while is so for all.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raypt.bench.measure import Timing, report_line
from raypt.bench.training import SHAPE
from raypt.errors import UserError
from raypt.training.config import TrainConfig
from raypt.training.on_ray.environment import worker_environment

AXES = {"pp": "pipeline", "tp": "tensor"}
RECORD_EVERY = 5
"""Steps of a pipeline: its second and every fifth after are recorded, and not timed."""


def parsed(mesh: str) -> dict[str, Any]:
    """`train.parallel` of a mesh, as "pp2tp2:1f1b:6-2": sizes, a schedule, the layers of each part; "dp" is what is
    left over.

    Raises:
        UserError: it is none.
    """
    named = re.fullmatch(r"((?:(?:dp|pp|tp)\d+)+)(?::(\w+)(?::(\d+(?:-\d+)*))?)?", mesh)
    if named is None:
        raise UserError(
            f"--meshes: {mesh!r} is no mesh; one is written as dp2, pp2, tp2, pp2tp2, pp2:zero_bubble or pp2:1f1b:6-2"
        )
    sizes, schedule, stages = named.groups()
    found: dict[str, Any] = {AXES[axis]: int(n) for axis, n in re.findall(r"([a-z]+)(\d+)", sizes) if axis in AXES}
    if schedule is not None:
        found["schedule"] = schedule
    if stages is not None:
        found["stages"] = [int(n) for n in stages.split("-")]
    return found


def compare(args: argparse.Namespace, threads: int) -> int:
    """`jobs/bench.py train --meshes ...`: prints one JSON line, with ratios to the first mesh."""
    environment = worker_environment(TrainConfig(), threads) | {"DEEPSPEED_LOG_LEVEL": "error"}
    told = {
        "meshes": {mesh: parsed(mesh) for mesh in args.meshes}, "threads": threads, "steps": args.steps,
        "warmup": args.warmup, "micro_batch": args.micro_batch, "length": args.length,
        "accumulation": args.accumulation, "stage": args.stage, "precision": args.precision,
        "loss_chunk": args.loss_chunk,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as directory:
        task, out = Path(directory) / "task.json", Path(directory) / "out.json"
        task.write_text(json.dumps(told))
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={args.workers}"]
        code = subprocess.call(
            [*torchrun, "-m", "raypt.bench.meshes", str(task), str(out)],
            stdout=sys.stderr,
            env=os.environ | environment | {"PYTHONWARNINGS": "ignore"},
        )
        if code:
            raise SystemExit(f"torchrun ended with {code}")
        found = json.loads(out.read_text())
    tokens = args.length * args.micro_batch * args.accumulation
    first = found[args.meshes[0]]["seconds"]
    rows = {}
    for mesh, figures in found.items():
        seconds = figures["seconds"]
        rows[mesh] = {
            "tokens_per_s": round(tokens / statistics.median(seconds), 1),
            "tokens_per_s_best": round(tokens / min(seconds), 1),
            "ratio": round(statistics.median(a / b for a, b in zip(first, seconds, strict=True)), 3),
            "ratio_best": round(min(first) / min(seconds), 3),
            "cpu_s_by_rank": figures["cpu_s"],
            "communication": round(figures["communication"], 3),
            "idle": figures["idle"],
            "idle_as_cut": figures["idle_as_cut"],
            "idle_formula": figures["idle_formula"],
            "layers": figures["layers"],
        }
    report_line(
        "train",
        Timing(sum(sum(figures["seconds"]) for figures in found.values()), 0.0),
        tokens=tokens * args.steps * len(found),
        workers=args.workers,
        threads=threads,
        stage=args.stage,
        micro_batches=args.accumulation,
        micro_batch=args.micro_batch,
        length=args.length,
        precision=args.precision,
        timed_steps=len(first),
        meshes=rows,
    )
    return 0


@dataclass
class _Run:
    """An engine, and what its steps took on this rank."""

    engine: Any
    batch: list[Any]
    layers: tuple[int, ...]
    seconds: list[float] = field(default_factory=list)
    cpu_s: list[list[float]] = field(default_factory=list)
    """Of each step, by rank: what other processes on the machine do not change."""
    communication: list[float] = field(default_factory=list)
    """Share of each step."""
    idle: list[float] = field(default_factory=list)
    as_cut: list[float] = field(default_factory=list)
    """What would be idle by the order and the parts' costs alone."""
    formula: float | None = None

    def step(self) -> None:
        from raypt.parallel import comm

        comm.barrier()
        started, cpu_started = time.perf_counter(), time.process_time()
        self.engine.forward_backward(self.batch)
        self.engine.step(1.0)
        comm.barrier()
        took, record = time.perf_counter() - started, self.engine.timing.pipeline
        self.cpu_s.append(comm.gather_objects(time.process_time() - cpu_started))
        self.seconds.append(took)
        self.communication.append(self.engine.timing.communication / took)
        if record is not None:
            self.idle.append(record.idle_share)
            self.as_cut.append(record.as_cut().idle_share)
            self.formula = record.idle_formula


def _rank(task: dict[str, Any], out: Path) -> None:
    import torch
    import torch.distributed as dist

    from raypt.parallel import comm
    from raypt.training.worker import quiet_libraries

    torch.set_num_threads(task["threads"])
    quiet_libraries()
    device = comm.init_process_group(use_gpu=False)
    runs = {name: _run(parallel, task, device) for name, parallel in task["meshes"].items()}
    timed: list[int] = []
    step = 0
    while len(timed) < task["steps"]:
        step += 1
        for run in runs.values():
            run.step()
        if dist.get_rank() == 0:
            took = ", ".join(
                f"{name} {run.seconds[-1]:.2f} s (CPU {' + '.join(f'{s:.2f}' for s in run.cpu_s[-1])})"
                for name, run in runs.items()
            )
            print(f"step {step}: {took}", file=sys.stderr, flush=True)
        if step > task["warmup"] and step % RECORD_EVERY != 2:
            timed.append(step - 1)
    found = {}
    for name, run in runs.items():
        seconds = [run.seconds[i] for i in timed]
        share = statistics.mean(comm.gather_objects(statistics.mean(run.communication[i] for i in timed)))
        found[name] = {
            "seconds": seconds, "communication": share, "layers": run.layers, "idle_formula": run.formula,
            "cpu_s": [round(statistics.median(rank), 3) for rank in zip(*(run.cpu_s[i] for i in timed), strict=True)],
            "idle": round(statistics.median(run.idle), 4) if run.idle else None,
            "idle_as_cut": round(statistics.median(run.as_cut), 4) if run.as_cut else None,
        }  # fmt: skip
    if dist.get_rank() == 0:
        out.write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def _run(parallel: dict[str, Any], task: dict[str, Any], device: Any) -> _Run:
    import numpy as np
    import torch.distributed as dist

    from raypt.model import ModelConfig
    from raypt.model.batch import micro_batch
    from raypt.parallel.config import ParallelConfig, ZeroConfig
    from raypt.parallel.initial_state import InitialState
    from raypt.parallel.mesh import Mesh
    from raypt.parallel.pipeline.cut import layers_of_parts
    from raypt.training.batch_plan import plan_batches
    from raypt.training.config import OptimizerConfig
    from raypt.training.engines import build_engine
    from raypt.training.sizes import check_mesh, topology

    model, world, length = ModelConfig.model_validate(SHAPE), dist.get_world_size(), task["length"]
    train = TrainConfig(
        workers=world,
        micro_batch_size=task["micro_batch"],
        global_batch_tokens=length * task["micro_batch"] * task["accumulation"],
        parallel=ParallelConfig.model_validate({**parallel, "record_every": RECORD_EVERY}),
        precision=task["precision"],
        loss_chunk_tokens=task["loss_chunk"],
        optimizer=OptimizerConfig(lr=3e-4),
        zero=ZeroConfig.model_validate({"stage": task["stage"]}),
    )
    check_mesh(model, train, length)
    mesh = Mesh(topology(train, dist.get_rank(), world))
    at = mesh.topology
    plan = plan_batches(
        global_batch_tokens=train.global_batch_tokens,
        sequence_length=length,
        micro_batch_size=train.micro_batch_size,
        data_size=at.data_size,
    )
    engine = build_engine(model, train, plan, mesh, device=device)
    engine.restore(InitialState(model, 0))
    random, batch = np.random.default_rng(1234 + at.data_rank), []
    for _ in range(plan.accumulation):
        tokens = random.integers(0, model.vocab, (train.micro_batch_size, length + 1))
        rows = {"tokens": tokens, "segments": np.ones_like(tokens), "sample_index": np.arange(len(tokens))}
        batch.append(micro_batch(rows))
    return _Run(engine, batch, layers_of_parts(model, train.parallel, length))


if __name__ == "__main__":
    _rank(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
