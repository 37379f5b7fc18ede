"""Training speed on one machine: tokens a second, MFU against this machine's own matrix products, peak memory.

    python jobs/bench.py train --workers 2 --stage 3 --precision bf16

The shape is fixed (hidden 512, 8 layers, 8 heads, 4 key/value heads, feed-forward 1408, vocabulary 32000, 512 tokens,
micro-batch 4, AdamW, clipping) so that figures of different engines compare. Tokens are random; the loop is the train
engine's own, without Ray.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from raypt.analysis.measure import PeakMemory, Section, report_line

LENGTH, MICRO_BATCH = 512, 4


def main(argv: list[str]) -> int:
    """`jobs/bench.py train ...`: start the ranks, collect rank 0's figures, print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", help="ignored: the tokens are random")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, help="threads of a worker (default: all CPUs over the workers)")
    parser.add_argument("--stage", type=int, choices=(0, 1, 2, 3), default=1)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--rank-result", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    threads = args.threads or max(1, (os.cpu_count() or 1) // args.workers)
    if args.rank_result is not None:
        _rank(args.stage, args.precision, threads, args.warmup, args.steps, args.rank_result)
        return 0
    memory = PeakMemory()
    with tempfile.TemporaryDirectory() as directory:
        result = Path(directory) / "rank-0.json"
        _launch(args.workers, threads, [*argv, "--rank-result", str(result)])
        peak_rss = memory.stop()
        figures = json.loads(result.read_text())
    tokens = LENGTH * MICRO_BATCH * args.workers
    median = statistics.median(figures["seconds"])
    rate = tokens / median
    achieved = rate * figures["flops_per_token"] / args.workers
    report_line(
        "train",
        Section(sum(figures["seconds"]), figures["cpu_s"] * args.workers),
        tokens=tokens * args.steps,
        workers=args.workers,
        threads=threads,
        stage=args.stage,
        precision=args.precision,
        tokens_per_s_median=round(rate, 1),
        tokens_per_s_best=round(tokens / min(figures["seconds"]), 1),
        step_ms=round(1000 * median, 1),
        mfu=round(achieved / figures["peak_flops"], 4),
        matmul_gflops=round(figures["peak_flops"] / 1e9, 1),
        parts_ms={k: round(1000 * v, 1) for k, v in figures["parts"].items()},
        loss=round(figures["loss"], 4),
        peak_rss_mb=round(peak_rss / 1e6),
    )
    return 0


def _launch(workers: int, threads: int, argv: list[str]) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    base = os.environ | {
        "WORLD_SIZE": str(workers),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": str(threads),
        "DS_ACCELERATOR": "cpu",
        "DEEPSPEED_LOG_LEVEL": "error",
        "PYTHONWARNINGS": "ignore",
    }
    code = "import sys; from raypt.training.bench import main; sys.exit(main(sys.argv[1:]))"
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", code, *argv], env=base | {"RANK": str(r), "LOCAL_RANK": str(r)}, stdout=2
        )
        for r in range(workers)
    ]
    failed = [r for r, process in enumerate(ranks) if process.wait()]
    if failed:
        raise SystemExit(f"rank {failed[0]} failed")


def _rank(stage: int, precision: str, threads: int, warmup: int, steps: int, result: Path) -> None:
    import numpy as np
    import torch
    import torch.distributed as dist

    from raypt.model import ModelConfig
    from raypt.model.batch import micro_batch
    from raypt.parallel import comm
    from raypt.parallel.config import ZeroConfig
    from raypt.training.config import OptimizerConfig, TrainConfig
    from raypt.training.peak import matmul_flops
    from raypt.training.plan import plan_batches
    from raypt.training.worker import build_engine, quiet_libraries

    torch.set_num_threads(threads)
    quiet_libraries()
    device = comm.init_process_group(use_gpu=False)
    world, rank = dist.get_world_size(), dist.get_rank()
    model = ModelConfig(
        vocab_size=32000, hidden_size=512, intermediate_size=1408, num_layers=8, num_heads=8, num_kv_heads=4,
        max_length=LENGTH, tie_embeddings=False,
    )  # fmt: skip
    train = TrainConfig(
        workers=world,
        micro_batch_size=MICRO_BATCH,
        global_batch_tokens=LENGTH * MICRO_BATCH * world,
        precision=precision,
        optimizer=OptimizerConfig(lr=3e-4),
        zero=ZeroConfig.model_validate({"stage": stage}),
    )
    plan = plan_batches(
        global_batch_tokens=train.global_batch_tokens,
        sequence_length=LENGTH,
        micro_batch_size=MICRO_BATCH,
        world_size=world,
    )
    engine = build_engine(model, train, plan, seed=0, device=device)
    random = np.random.default_rng(1234 + rank)
    seconds: list[float] = []
    parts: dict[str, float] = {"forward": 0.0, "backward": 0.0, "step": 0.0, "communication": 0.0}
    figures: dict[str, Any] = {}
    cpu = 0.0
    for step in range(warmup + steps):
        tokens = random.integers(0, model.vocab, (MICRO_BATCH, LENGTH + 1))
        batch = micro_batch(
            {"tokens": tokens, "segments": np.ones_like(tokens), "sample_index": np.arange(MICRO_BATCH)}
        )
        comm.barrier()
        started, cpu_started = time.perf_counter(), time.process_time()
        figures["loss"] = engine.forward_backward([batch]).loss
        engine.step(1.0)
        comm.barrier()
        if step >= warmup:
            seconds.append(time.perf_counter() - started)
            cpu += time.process_time() - cpu_started
            for name in parts:
                parts[name] += getattr(engine.timing, name) / steps
    if rank == 0:
        del engine
        figures |= {"seconds": seconds, "cpu_s": cpu, "parts": parts, "flops_per_token": model.flops_per_token(LENGTH)}
        figures["peak_flops"] = matmul_flops(device, precision, size=2048, repeats=4)
        result.write_text(json.dumps(figures))
    dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
