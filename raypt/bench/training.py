"""Training speed on one machine: tokens a second, the share of this machine's own matrix products, peak memory.

    python jobs/bench.py train --workers 2 --stage 3 --precision bf16

The shape is fixed (hidden 512, 8 layers, 8 heads, 4 key/value heads, feed-forward 1408, vocabulary 32000, 512 tokens,
micro-batch 4, AdamW, clipping) so that figures of different engines compare. Tokens are random; the loop is the train
engine's own. torchrun starts the workers, or Ray Train does (`--under ray`): what Ray costs is the difference.
`--meshes dp2 pp2 tp2` holds ways to cut one model and batch against each other, step by step in turn.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from raypt.bench.measure import PeakMemory, Timing, report_line
from raypt.training.config import TrainConfig
from raypt.training.on_ray.environment import worker_environment

LENGTH, MICRO_BATCH = 512, 4
SHAPE = {
    "vocab_size": 32000, "hidden_size": 512, "intermediate_size": 1408, "num_layers": 8, "num_heads": 8,
    "num_kv_heads": 4, "max_length": LENGTH, "tie_embeddings": False,
}  # fmt: skip


def main(argv: list[str]) -> int:
    """`jobs/bench.py train ...`: start the ranks, collect rank 0's figures, print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", help="ignored: the tokens are random")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, help="threads of a worker (default: all CPUs over the workers)")
    parser.add_argument("--stage", type=int, choices=(0, 1, 2, 3), default=1)
    parser.add_argument("--pipeline", type=int, default=1, help="workers that the layers are cut over")
    parser.add_argument("--schedule", default="1f1b", help="of the pipeline; default: %(default)s")
    parser.add_argument("--stages", type=int, nargs="+", help="layers of each part of the pipeline; default: balanced")
    parser.add_argument(
        "--meshes", nargs="+", metavar="MESH", help="as dp2, pp2, pp2:zero_bubble, tp2; --accumulation is a replica's"
    )
    parser.add_argument("--accumulation", type=int, default=1, help="micro-batches a replica and step")
    parser.add_argument("--micro-batch", type=int, default=MICRO_BATCH, help="samples; default: %(default)s")
    parser.add_argument("--length", type=int, default=LENGTH, help="tokens of a sample; default: %(default)s")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--loss-chunk", type=int, default=TrainConfig().loss_chunk_tokens, help="default: %(default)s")
    parser.add_argument("--under", choices=("torchrun", "ray"), default="torchrun", help="what starts the workers")
    parser.add_argument(
        "--strategy", choices=("collective", "parameter_server"), default="collective", help="the latter: under Ray"
    )
    parser.add_argument("--servers", type=int, default=1, help="parameter servers (default: %(default)s)")
    parser.add_argument("--compile", action="store_true", help="torch.compile each block")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--rank-result", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    threads = args.threads or max(1, (os.cpu_count() or 1) // args.workers)
    if args.meshes:
        from raypt.bench.meshes import compare

        return compare(args, threads)
    if args.rank_result is not None:
        _rank(args, threads)
        return 0
    environment = worker_environment(TrainConfig(), threads) | {"DEEPSPEED_LOG_LEVEL": "error"}
    os.environ.update(environment | {"PYTHONWARNINGS": "ignore"})
    memory = PeakMemory()
    with tempfile.TemporaryDirectory() as directory:
        args.rank_result = Path(directory) / "rank-0.json"
        if args.strategy == "parameter_server":
            args.under = "ray"
        if args.under == "ray":
            _under_ray(args, threads, directory, environment)
        else:
            _under_torchrun(args.workers, [*argv, "--rank-result", str(args.rank_result)])
        peak_rss = memory.stop()
        figures = json.loads(args.rank_result.read_text())
    tokens = args.length * args.micro_batch * args.accumulation * (args.workers // args.pipeline)
    median = statistics.median(figures["seconds"])
    rate = tokens / median
    achieved = rate * figures["flops_per_token"] / args.workers
    report_line(
        "train",
        Timing(sum(figures["seconds"]), figures["cpu_s"] * args.workers),
        tokens=tokens * args.steps,
        workers=args.workers,
        threads=threads,
        stage=args.stage,
        pipeline=args.pipeline,
        schedule=args.schedule if args.pipeline > 1 else None,
        micro_batches=args.accumulation,
        micro_batch=args.micro_batch,
        length=args.length,
        pipeline_idle=figures["idle"],
        precision=args.precision,
        compiled=args.compile,
        under=args.under,
        strategy=args.strategy,
        tokens_per_s_median=round(rate, 1),
        tokens_per_s_best=round(tokens / min(figures["seconds"]), 1),
        step_ms=round(1000 * median, 1),
        matmul_share=round(achieved / figures["peak_flops"], 4),
        matmul_gflops=round(figures["peak_flops"] / 1e9, 1),
        parts_ms={k: round(1000 * v, 1) for k, v in figures["parts"].items()},
        loss=round(figures["loss"], 4),
        peak_rss_mb=round(peak_rss / 1e6),
    )
    return 0


def _under_torchrun(workers: int, argv: list[str]) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}"]
    code = subprocess.call([*torchrun, "-m", "raypt.bench.training", *argv], stdout=sys.stderr)
    if code:
        raise SystemExit(f"torchrun ended with {code}")


def _under_ray(args: argparse.Namespace, threads: int, directory: str, environment: dict[str, str]) -> None:
    import ray
    from ray.train.torch import TorchConfig
    from ray.train.v2.api.config import RunConfig, ScalingConfig
    from ray.train.v2.torch.torch_trainer import TorchTrainer

    ray.init(address="local", num_cpus=args.workers + args.servers, include_dashboard=False, log_to_driver=False)
    try:
        TorchTrainer(
            lambda: _rank(args, threads),
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ScalingConfig(num_workers=args.workers),
            run_config=RunConfig(storage_path=directory, worker_runtime_env={"env_vars": environment}),
        ).fit()
    finally:
        ray.shutdown()


def _rank(args: argparse.Namespace, threads: int) -> None:
    import numpy as np
    import torch
    import torch.distributed as dist

    from raypt.model import ModelConfig
    from raypt.model.batch import micro_batch
    from raypt.parallel import comm
    from raypt.parallel.config import ParallelConfig, ParameterServerConfig, ZeroConfig
    from raypt.parallel.initial_state import InitialState
    from raypt.parallel.mesh import Mesh
    from raypt.training.batch_plan import plan_batches
    from raypt.training.config import OptimizerConfig
    from raypt.training.engines import build_engine
    from raypt.training.peak import matmul_flops
    from raypt.training.sizes import topology
    from raypt.training.worker import quiet_libraries

    torch.set_num_threads(threads)
    quiet_libraries()
    device = comm.init_process_group(use_gpu=False)
    world, rank = dist.get_world_size(), dist.get_rank()
    model = ModelConfig.model_validate(SHAPE)
    train = TrainConfig(
        workers=world,
        micro_batch_size=args.micro_batch,
        global_batch_tokens=args.length * args.micro_batch * args.accumulation * (world // args.pipeline),
        parallel=ParallelConfig.model_validate(
            {"pipeline": args.pipeline, "schedule": args.schedule, "stages": args.stages}
        ),
        precision=args.precision,
        compile=args.compile,
        loss_chunk_tokens=args.loss_chunk,
        optimizer=OptimizerConfig(lr=3e-4),
        zero=ZeroConfig.model_validate({"stage": args.stage}),
        strategy=args.strategy,
        parameter_server=ParameterServerConfig(servers=args.servers),
    )
    plan = plan_batches(
        global_batch_tokens=train.global_batch_tokens,
        sequence_length=args.length,
        micro_batch_size=args.micro_batch,
        data_size=world // args.pipeline,
    )
    mesh = Mesh(topology(train, rank, world))
    engine = build_engine(model, train, plan, mesh, device=device)
    engine.restore(InitialState(model, 0))
    random = np.random.default_rng(1234 + mesh.topology.data_rank)
    seconds: list[float] = []
    parts: dict[str, float] = {"forward": 0.0, "backward": 0.0, "step": 0.0, "communication": 0.0}
    figures: dict[str, Any] = {"idle": None}
    cpu = 0.0
    for step in range(args.warmup + args.steps):
        batch = []
        for _ in range(args.accumulation):
            tokens = random.integers(0, model.vocab, (args.micro_batch, args.length + 1))
            rows = {"tokens": tokens, "segments": np.ones_like(tokens), "sample_index": np.arange(args.micro_batch)}
            batch.append(micro_batch(rows))
        comm.barrier()
        started, cpu_started = time.perf_counter(), time.process_time()
        figures["loss"] = engine.forward_backward(batch).loss
        engine.step(1.0)
        comm.barrier()
        if engine.timing.pipeline is not None:
            figures["idle"] = round(engine.timing.pipeline.idle_share, 4)
        if step >= args.warmup:
            seconds.append(time.perf_counter() - started)
            cpu += time.process_time() - cpu_started
            for name in parts:
                parts[name] += getattr(engine.timing, name) / args.steps
    if rank == 0:
        del engine
        figures |= {
            "seconds": seconds,
            "cpu_s": cpu,
            "parts": parts,
            "flops_per_token": model.flops_per_token(args.length),
        }
        figures["peak_flops"] = matmul_flops(device, args.precision, repeats=4)
        args.rank_result.write_text(json.dumps(figures))
    if args.under == "torchrun":
        dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
