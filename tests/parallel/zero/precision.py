"""How far the gradient of a bf16 step is from that of fp32, by ZeRO stage, and what of it the summing adds.

    python -m tests.parallel.zero.precision --micro-batches 512

The truth is the gradient of the same samples with fp32 weights, activations and sums. `reference` computes in bf16 and
adds up in fp32, in one process; the engines must come as near.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raypt.model import Llama
from raypt.model.batch import MicroBatch
from raypt.parallel.config import ZeroConfig
from tests.parallel import cases
from tests.parallel.ranks import run_ranks


class Probe(torch.optim.Optimizer):
    """Keeps the gradient as its state, and changes no weight."""

    def __init__(self, params: Iterable[Any]) -> None:
        super().__init__(params, {"lr": 1.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.state[p]["gradient"] = p.grad.detach().clone()


def batches(rank: int, world: int, count: int) -> list[MicroBatch]:
    """`count` micro-batches of a rank, of 2 samples each; the samples of all ranks are those of one rank."""
    tokens, segments = cases.samples()
    out = []
    for j in range(count // world):
        rows = (2 * (j * world + rank) + np.arange(2)) % len(tokens)
        out.append(cases.micro_batch({"tokens": tokens[rows], "segments": segments[rows], "sample_index": rows}))
    return out


def plain(count: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """The gradient computed in `dtype` and added up in float64 (fp32) or float32 (bf16), in one process."""
    model = Llama(cases.MODEL).initialise(0).to(dtype)
    some = batches(0, 1, count)
    tokens = sum(m.tokens for m in some)
    high = torch.float64 if dtype == torch.float32 else torch.float32
    total = {name: torch.zeros(p.shape, dtype=high) for name, p in model.named_parameters()}
    for m in some:
        (model(m.tokens_BS, m.segments_BS, targets=m.targets())[0] / tokens).backward()
        for name, p in model.named_parameters():
            assert p.grad is not None
            total[name] += p.grad
            p.grad = None
    return total


def naive(count: int) -> dict[str, Tensor]:
    """The gradient computed and added up in bf16: what autograd does by itself."""
    model = Llama(cases.MODEL).initialise(0).to(torch.bfloat16)
    some = batches(0, 1, count)
    tokens = sum(m.tokens for m in some)
    for m in some:
        (model(m.tokens_BS, m.segments_BS, targets=m.targets())[0] / tokens).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def distance(got: dict[str, Tensor], true: dict[str, Tensor]) -> float:
    """Norm of the difference over the norm of the truth."""
    square = sum(float((got[name].double() - t.double()).square().sum()) for name, t in true.items())
    return float((square / sum(float(t.double().square().sum()) for t in true.values())) ** 0.5)


def engines(count: int, stages: list[int], options: dict[str, Any]) -> dict[str, float]:
    """On each rank: the distance from the truth of the gradient that each stage's engine hands to its optimizer."""
    from raypt.parallel import comm
    from raypt.parallel.initial_state import InitialState
    from raypt.parallel.mesh import Mesh
    from raypt.parallel.zero.engine import ZeroEngine

    torch.set_num_threads(1)
    device = comm.init_process_group(use_gpu=False)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    true, out = plain(count, torch.float32), {}
    for stage in stages:
        engine = ZeroEngine(
            lambda: Llama(cases.MODEL),
            mesh=Mesh.of_data_ranks(),
            optimizer=lambda model: Probe(model.parameters()),
            zero=ZeroConfig.model_validate({"stage": stage, **options}),
            precision="bf16",
            clip_norm=None,
            micro_batch_size=2,
            accumulation=count // world,
            device=device,
        )
        engine.restore(InitialState(cases.MODEL, 0))
        engine.forward_backward(batches(rank, world, count))
        engine.step(1.0)
        got = {name: torch.zeros(t.shape, dtype=torch.float64) for name, t in true.items()}
        held = {name: torch.zeros(t.shape, dtype=torch.float64) for name, t in true.items()}
        for piece in engine.partition.owned():
            part = slice(piece.start, piece.start + piece.numel)
            got[piece.name].view(-1)[part] += piece.of(engine.partition.inner.state[piece.buffer]["gradient"]).double()
            held[piece.name].view(-1)[part] += 1
        for name in got:
            comm.all_reduce(got[name])
            comm.all_reduce(held[name])
            assert bool((held[name] == 1).all())
        out[str(stage)] = distance(got, true)
    return out


def measure(count: int, worlds: list[int], stages: list[int], options: dict[str, Any]) -> dict[str, float]:
    """ "reference" and, for each number of ranks and stage, "world/stage": distances from the truth."""
    reference = distance(plain(count, torch.bfloat16), plain(count, torch.float32))
    out = {"reference": reference}
    for world in worlds:
        with tempfile.TemporaryDirectory() as tmp:
            arguments = {"count": count, "stages": stages, "options": options}
            found = run_ranks(world, "tests.parallel.zero.precision", "engines", Path(tmp), **arguments)[0]
        out |= {f"{world}/{stage}": value for stage, value in found.items()}
    return out


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--micro-batches", type=int, default=512, help="of all ranks together; default: %(default)s")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--stages", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--zero", type=json.loads, default={}, help="further keys of train.zero, as JSON")
    args = parser.parse_args(argv)
    found = measure(args.micro_batches, args.ranks, args.stages, args.zero)
    for name, value in found.items():
        print(f"{name:>10}  {100 * value:.4f} %  {value / found['reference']:.3f} x the reference")
    return int(any(value > 1.2 * found["reference"] for value in found.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
