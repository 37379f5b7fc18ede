"""What training really holds in memory, measured on ranks of a gloo group: states tensor by tensor, and the peak."""

import gc
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from raypt.model import Llama, ModelConfig
from raypt.model.batch import MicroBatch, micro_batch
from raypt.parallel.config import ZeroConfig
from raypt.training.config import OptimizerConfig
from raypt.training.optim.optimizer import build_optimizer


def _storages() -> dict[int, int]:
    """Address -> bytes of the storage of every tensor that is alive."""
    gc.collect()
    found: dict[int, int] = {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor) and thing.device.type == "cpu":
            storage = thing.untyped_storage()
            if storage.nbytes():
                found[storage.data_ptr()] = storage.nbytes()
            if thing.grad is not None:
                storage = thing.grad.untyped_storage()
                found[storage.data_ptr()] = storage.nbytes()
    return found


def _live() -> int:
    return sum(_storages().values())


def batches(shape: ModelConfig, micro: int, length: int, count: int) -> list[MicroBatch]:
    random = np.random.default_rng(0)
    out = []
    for _ in range(count):
        rows = {
            "tokens": random.integers(0, shape.vocab, (micro, length + 1)),
            "segments": np.ones((micro, length + 1), np.int32),
            "sample_index": np.arange(micro),
        }
        out.append(micro_batch(rows))
    return out


def measure(
    shape: dict[str, Any],
    micro: int,
    length: int,
    stage: int,
    checkpointing: str,
    precision: str,
    kind: str = "adamw",
    chunk: int = 64,
    count: int = 2,
    **zero: Any,
) -> dict[str, Any]:
    """{states: [bytes of each tensor that outlives a step], peak: bytes alive at most during a step}."""
    from raypt.parallel.mesh import Mesh
    from raypt.parallel.zero.engine import ZeroEngine

    model = ModelConfig.model_validate(shape)
    data = batches(model, micro, length, count)
    before = set(_storages())
    engine = ZeroEngine(
        lambda: Llama(model, checkpointing),
        mesh=Mesh.of_data_ranks(),
        optimizer=lambda m: build_optimizer(m, OptimizerConfig(kind=kind)),
        zero=ZeroConfig(stage=stage, **zero),
        precision=precision,
        clip_norm=1.0,
        micro_batch_size=micro,
        accumulation=count,
        device=torch.device("cpu"),
        loss_chunk_tokens=chunk,
    )
    for _ in range(2):
        engine.forward_backward(data)
        engine.step(1.0)
    after = {k: v for k, v in _storages().items() if k not in before}
    live = sum(after.values())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        engine.forward_backward(data)
        engine.step(1.0)
    now = peak = live
    points = []
    for event in recorded.profiler.kineto_results.experimental_event_tree():
        points += _allocations(event)
    for _, size in sorted(points):
        now += size
        peak = max(peak, now)
    return {"states": sorted(after.values(), reverse=True), "peak": peak, "end": now}


def _allocations(event: Any) -> list[tuple[int, int]]:
    out, todo = [], [event]
    while todo:
        at = todo.pop()
        if at.name == "[memory]":
            out.append((at.start_time_ns, at.extra_fields.alloc_size))
        todo += at.children
    return out


def measure_all(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from raypt.parallel import comm  # noqa: F401

    torch.set_num_threads(1)
    import torch.distributed as dist

    dist.init_process_group("gloo")
    return [measure(**case) for case in cases]
