"""What two ranks find with the weights of one model between them; as a program, what memory they take for it beside
that of training.
"""

import gc
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from raypt.model import Llama, ModelConfig
from raypt.model.batch import MicroBatch
from raypt.parallel import comm
from raypt.parallel.config import ParallelConfig, ZeroConfig
from raypt.parallel.initial_state import InitialState
from raypt.parallel.mesh import Mesh
from raypt.parallel.weights.engine import WeightsEngine
from raypt.training.config import TrainConfig
from raypt.training.engines import build_engine, build_weights
from raypt.training.sizes import topology
from raypt.training.worker import joined

SEED, LENGTH = 3, 16
MODEL = ModelConfig(
    hidden_size=32, intermediate_size=49, num_layers=3, num_heads=4, num_kv_heads=1, vocab_size=101, vocab_multiple=1,
    max_length=LENGTH, init_std=0.3, tie_embeddings=False,
)  # fmt: skip
TIED = MODEL.model_copy(update={"tie_embeddings": True})
CASES: dict[str, tuple[ModelConfig, ParallelConfig, int, str]] = {
    "dp2": (MODEL, ParallelConfig(), 1, "fp32"),
    "zero3": (MODEL, ParallelConfig(), 3, "fp32"),
    "zero3 tied": (TIED, ParallelConfig(), 3, "fp32"),
    "zero3 in bf16": (MODEL, ParallelConfig(), 3, "bf16"),
    "tp2": (MODEL, ParallelConfig(tensor=2), 0, "fp32"),
    "tp2 tied": (TIED, ParallelConfig(tensor=2), 1, "fp32"),
    "tp2 in bf16": (MODEL, ParallelConfig(tensor=2), 1, "bf16"),
    "pp2": (MODEL, ParallelConfig(pipeline=2), 1, "fp32"),
    "cp2": (MODEL, ParallelConfig(context=2), 2, "fp32"),
}
"""Model, mesh of two ranks, ZeRO stage and precision, by name."""
TEXT = [5, 100, 0, 17, 33, 64, 2, 91]


def train_for(name: str) -> TrainConfig:
    _, parallel, stage, precision = CASES[name]
    return TrainConfig(
        workers=2,
        global_batch_tokens=LENGTH * 8,
        micro_batch_size=2,
        parallel=parallel,
        zero=ZeroConfig.model_validate({"stage": stage}),
        precision=precision,
    )


def micro(rows: Sequence[Sequence[int]], scored: int) -> MicroBatch:
    """Rows of equal length whose last targets are scored."""
    tokens = np.array(rows, np.int64)
    valid = np.zeros((len(rows), tokens.shape[1] - 1), bool)
    valid[:, -scored:] = True
    ids = torch.from_numpy(tokens)
    return MicroBatch(ids[:, :-1], ids[:, 1:], torch.from_numpy(valid), None, np.zeros(len(rows), np.int64), tokens)


def given() -> list[MicroBatch]:
    return [micro([[*TEXT, 1], [*TEXT[::-1], 1]], 3), micro([[*TEXT[::-1], 2], [*TEXT, 0]], 7)]


def decoded(engine: WeightsEngine) -> list[Tensor]:
    """The logits after the first ids of the text, and after each of the rest as they come: with a cache if there is
    one, else an even number of them.
    """
    cache, out = engine.new_cache(), []
    for start, end in [(0, 4), (4, 5), (5, 6)]:
        if cache is None:
            start, end = 0, -(-end // 2) * 2
        out.append(engine.logits([micro([[*TEXT[start:end], 0]], 1)], cache)[0][0])
    return out


def on_ranks() -> dict[str, Any]:
    results: dict[str, Any] = {}
    comm.init_process_group(use_gpu=False)
    for name, (model, _, _, _) in CASES.items():
        train = train_for(name)
        mesh = Mesh(topology(train, dist.get_rank(), 2))
        engine = build_weights(model, train, LENGTH, mesh, device=torch.device("cpu"))
        engine.restore(InitialState(model, SEED))
        batches = given()
        results[name] = {
            "losses": engine.evaluate(batches),
            "logits": [x.tolist() for x in engine.logits(batches)],
            "decoded": [x.tolist() for x in decoded(engine)],
            "cached": engine.new_cache() is not None,
            "nbytes": engine.nbytes,
        }
    return results


def whole(name: str) -> dict[str, Any]:
    """What one process finds with all of the model."""
    model = Llama(CASES[name][0]).initialise(SEED)
    batches = given()
    ends = [4, 6, 6] if CASES[name][1].context > 1 else [4, 5, 6]
    with torch.no_grad():
        return {
            "losses": [model(b.tokens_BS, targets=b.targets())[0].item() for b in batches],
            "logits": [model(b.tokens_BS)[b.valid_BS] for b in batches],
            "decoded": [model(torch.tensor([TEXT[:end]]))[0, -1] for end in ends],
        }


def memory(hidden: int, stage: int, tensor: int) -> dict[str, float]:
    """Bytes of tensors a parameter of the whole model that a rank of two has, in bf16: to judge, and to train, before
    and after an update.
    """
    model = ModelConfig(
        hidden_size=hidden, intermediate_size=3 * hidden, num_layers=4, num_heads=8, num_kv_heads=8, vocab_size=512,
        tie_embeddings=False,
    )  # fmt: skip
    train = train_for("tp2 in bf16" if tensor == 2 else "zero3 in bf16")
    train = train.model_copy(update={"zero": ZeroConfig.model_validate({"stage": stage})})
    device, mesh, plan = joined(train, LENGTH)
    batches = [micro([[*TEXT, 1], [*TEXT[::-1], 1]], 3)] * plan.accumulation
    none = tensor_bytes()
    judge = build_weights(model, train, LENGTH, mesh, device=device)
    judge.restore(InitialState(model, SEED))
    judge.evaluate(batches)
    judging = tensor_bytes()
    engine = build_engine(model, train, plan, mesh, device=device)
    engine.restore(InitialState(model, SEED))
    restored = tensor_bytes()
    engine.forward_backward(batches)
    engine.step(1.0)
    training = tensor_bytes()
    out = {
        "held": judge.nbytes,
        "judge": judging - none,
        "train, restored": restored - judging,
        "train, updated": training - judging,
    }
    return {what: nbytes / model.parameters() for what, nbytes in out.items()}


def tensor_bytes() -> int:
    """Of all tensors of this process, each storage once."""
    gc.collect()
    tensors = [x for x in gc.get_objects() if issubclass(type(x), Tensor) and not x.is_meta]
    tensors += [x.grad for x in tensors if x.is_leaf and x.grad is not None]
    return sum({x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}.values())


if __name__ == "__main__":
    import json
    import tempfile
    from pathlib import Path

    from tests.parallel.ranks import run_ranks

    for stage, tensor in ((1, 2), (1, 1), (3, 1)):
        with tempfile.TemporaryDirectory() as tmp:
            arguments = {"hidden": 256, "stage": stage, "tensor": tensor}
            found = run_ranks(2, "tests.parallel.weights.cases", "memory", Path(tmp), **arguments)
        print(f"ZeRO {stage}, tensor {tensor}: bytes a parameter on each rank {json.dumps(found)}", flush=True)
