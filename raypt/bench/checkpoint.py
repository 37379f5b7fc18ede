"""What a checkpoint costs the training that goes on meanwhile.

    python jobs/bench.py checkpoint --threads 1

One process trains the model of `bench.py train` on short batches, so that a save lasts for some steps. Rounds of quiet
steps and of steps during a background save alternate. The snapshot, which does interrupt training, is reported apart.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from raypt.bench.measure import Timing, report_line
from raypt.training.config import CheckpointConfig, OptimizerConfig, TrainConfig
from raypt.training.on_ray.environment import worker_environment

LENGTH = 32


def main(argv: list[str]) -> int:
    """`jobs/bench.py checkpoint ...`: print one JSON line."""
    parser = argparse.ArgumentParser(prog="bench.py checkpoint", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--threads", type=int, default=1, help="threads of the matrix products; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=4, help="saves; default: %(default)s")
    parser.add_argument("--quiet-steps", type=int, default=8, help="steps between two saves; default: %(default)s")
    parser.add_argument("--dir", default=None, help="where to write; default: the temporary directory")
    args = parser.parse_args(argv)
    environment = worker_environment(TrainConfig(), args.threads)
    if not environment.items() <= os.environ.items():  # memory is managed as the process found it at its start
        os.execve(sys.executable, sys.orig_argv, os.environ | environment)
    os.environ.update(
        RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="0",
        DEEPSPEED_LOG_LEVEL="error",
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=args.dir) as directory:
        _measure(Path(directory), args.threads, args.rounds, args.quiet_steps)
    return 0


def _rise(steps: list[float], quiet: float, save: float) -> float:
    """By how much a step is longer while a save of `save` seconds is at work, if `steps` are those it overlaps: what
    they take beyond their quiet time, as a share of the quiet time that the save lasts.
    """
    extra = sum(steps) - len(steps) * quiet
    return extra / (save - extra)


def _measure(directory: Path, threads: int, rounds: int, quiet_steps: int) -> None:
    import numpy as np
    import torch
    import torch.distributed as dist

    from raypt.model import ModelConfig
    from raypt.model.batch import micro_batch
    from raypt.parallel import comm
    from raypt.parallel.initial_state import InitialState
    from raypt.parallel.mesh import Mesh
    from raypt.training.batch_plan import plan_batches
    from raypt.training.checkpoint.manifest import Progress
    from raypt.training.checkpoint.writer import CheckpointWriter
    from raypt.training.engines import build_engine
    from raypt.training.worker import quiet_libraries

    torch.set_num_threads(threads)
    quiet_libraries()
    device = comm.init_process_group(use_gpu=False)
    model = ModelConfig(
        vocab_size=32000, hidden_size=512, intermediate_size=1408, num_layers=8, num_heads=8, num_kv_heads=4,
        max_length=LENGTH, tie_embeddings=False,
    )  # fmt: skip
    train = TrainConfig(workers=1, micro_batch_size=1, global_batch_tokens=LENGTH, optimizer=OptimizerConfig(lr=3e-4))
    plan = plan_batches(global_batch_tokens=LENGTH, sequence_length=LENGTH, micro_batch_size=1, data_size=1)
    engine = build_engine(model, train, plan, Mesh.of_data_ranks(), device=device)
    engine.restore(InitialState(model, 0))
    writer = CheckpointWriter(str(directory), CheckpointConfig(keep_last=1), rank=0, world=1, meta={})
    tokens = np.random.default_rng(1).integers(0, model.vocab, (1, LENGTH + 1))
    batch = micro_batch({"tokens": tokens, "segments": np.ones_like(tokens), "sample_index": np.arange(1)})

    def step() -> float:
        started = time.perf_counter()
        engine.forward_backward([batch])
        engine.step(1.0)
        return time.perf_counter() - started

    for _ in range(3):
        step()
    quiet: list[float] = []
    stalls: list[float] = []
    saves: list[float] = []
    overlapping: list[list[float]] = []
    began, cpu = time.perf_counter(), time.process_time()
    for i in range(rounds):
        quiet += [step() for _ in range(quiet_steps)]
        started = time.perf_counter()
        writer.save(writer.new_name(i + 1), engine.shard(), Progress(step=i + 1))
        stalls.append(time.perf_counter() - started)
        overlapping.append([])
        while writer.writing:
            overlapping[-1].append(step())
        writer.wait()
        saves.append(writer.seconds)
    section = Timing(time.perf_counter() - began, time.process_time() - cpu)
    without = statistics.median(quiet)
    rises = [_rise(steps, without, save) for steps, save in zip(overlapping, saves, strict=True)]
    rise = statistics.median(rises)
    info = writer.committed
    assert info is not None
    size = sum(int(file["size"]) for file in info.files.values())
    report_line(
        "checkpoint",
        section,
        threads=threads,
        step_ms=round(1000 * without, 1),
        step_during_save_ms=round(1000 * without * (1 + rise), 1),
        rise_percent=round(100 * rise, 1),
        rise_percent_by_save=[round(100 * r, 1) for r in rises],
        snapshot_stall_ms=round(1000 * statistics.median(stalls), 1),
        checkpoint_bytes=size,
        save_s=round(statistics.median(saves), 2),
        save_mb_per_s=round(size / 1e6 / statistics.median(saves), 1),
    )
    dist.destroy_process_group()
