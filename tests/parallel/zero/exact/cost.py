"""What exact sums cost: steps by an engine with them and one without, in turns.

    python -m tests.parallel.zero.exact.cost --ranks 2 --stage 1

Processor time beside wall time: the former holds on a busy machine too, and leaves out the waits of communication.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from raypt.model import Llama, ModelConfig
from raypt.model.batch import MicroBatch, micro_batch
from raypt.training.config import OptimizerConfig
from raypt.training.optim.optimizer import build_optimizer
from tests.parallel.ranks import run_ranks

MODEL = ModelConfig(
    vocab_size=4096, hidden_size=256, intermediate_size=688, num_layers=6, num_heads=4, num_kv_heads=2
)  # fmt: skip
LENGTH, MICRO_BATCH, ACCUMULATION = 256, 2, 4


def engine_for(stage: int, *, exact: bool) -> Any:
    from raypt.parallel import comm
    from raypt.parallel.config import ZeroConfig
    from raypt.parallel.initial_state import InitialState
    from raypt.parallel.mesh import Mesh
    from raypt.parallel.zero.engine import ZeroEngine

    device = comm.init_process_group(use_gpu=False)
    engine = ZeroEngine(
        lambda: Llama(MODEL),
        mesh=Mesh.of_data_ranks(),
        optimizer=lambda model: build_optimizer(model, OptimizerConfig()),
        zero=ZeroConfig.model_validate({"stage": stage}),
        precision="fp32",
        clip_norm=1.0,
        micro_batch_size=MICRO_BATCH,
        accumulation=ACCUMULATION,
        device=device,
        exact=exact,
    )
    engine.restore(InitialState(MODEL, 0))
    return engine


def batches(random: np.random.Generator) -> list[MicroBatch]:
    shape = (MICRO_BATCH, LENGTH + 1)
    rows = {"segments": np.ones(shape, np.int32), "sample_index": np.arange(MICRO_BATCH)}
    return [micro_batch({"tokens": random.integers(0, MODEL.vocab, shape), **rows}) for _ in range(ACCUMULATION)]


def measure(stage: int, rounds: int) -> list[list[list[float]]]:
    """Without and with: (wall, processor) seconds of each round but the first."""
    torch.set_num_threads(1)
    engines = [engine_for(stage, exact=exact) for exact in (False, True)]
    random = np.random.default_rng(dist.get_rank())
    took: list[list[list[float]]] = [[], []]
    for turn in range(rounds):
        some = batches(random)
        for i in (0, 1) if turn % 2 else (1, 0):
            dist.barrier()
            wall, processor = time.perf_counter(), time.process_time()
            engines[i].forward_backward(some)
            engines[i].step(1.0)
            took[i].append([time.perf_counter() - wall, time.process_time() - processor])
    return [each[1:] for each in took]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--stage", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as tmp:
        module, given = "tests.parallel.zero.exact.cost", {"stage": args.stage, "rounds": args.rounds}
        fast, exact = run_ranks(args.ranks, module, "measure", Path(tmp), **given)[0]
    for at, name in enumerate(("wall", "processor")):
        ratios = sorted(b[at] / a[at] for a, b in zip(fast, exact, strict=True))
        one, other = (statistics.median(times[at] for times in each) for each in (fast, exact))
        spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
        print(f"{name}: {one:.3f} s fast, {other:.3f} s exact; {statistics.median(ratios):.3f}x ({spread})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
