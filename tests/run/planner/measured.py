"""What training really holds in memory, measured on ranks of a gloo group: states tensor by tensor, and the peak."""

import gc
import itertools
import math
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from raypt.model import Llama, ModelConfig
from raypt.model.batch import MicroBatch, micro_batch
from raypt.parallel.config import ZeroConfig
from raypt.parallel.engine import TrainEngine
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
    """{states: [bytes of each tensor that outlives a step], peak: bytes alive at most during a step, sent: bytes that a
    rank sends in it}."""
    from raypt.parallel.initial_state import InitialState
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
    engine.restore(InitialState(model, 0))
    for _ in range(2):
        _step(engine, data)
    after = {k: v for k, v in _storages().items() if k not in before}
    live = sum(after.values())
    peaks, sent = [], 0.0
    for _ in range(4):
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True, record_shapes=True) as recorded:
            _step(engine, data)
        events = recorded.profiler.kineto_results.experimental_event_tree()
        points = [point for event in events for point in _allocations(event)]
        sent = sum(map(_sent, events))
        peaks.append(live + max(0, *itertools.accumulate(size for _, size in sorted(points))))
    # The first profile misses that memory from before it is freed; and gloo's threads drop what they sent when they are
    # next on a CPU: on a busy machine, sometimes a collective later.
    return {"states": sorted(after.values(), reverse=True), "peak": min(peaks), "sent": sent}


def _step(engine: TrainEngine, data: list[MicroBatch]) -> None:
    engine.forward_backward(data)
    assert not engine.step(1.0).skipped, "a step without an update allocates no moments"


def _allocations(event: Any) -> list[tuple[int, int]]:
    out, todo = [], [event]
    while todo:
        at = todo.pop()
        if at.name == "[memory]":
            out.append((at.start_time_ns, at.extra_fields.alloc_size))
        todo += at.children
    return out


AGREED = 64
"""Bytes: a collective of no more is a loss, a norm or a flag."""


def _sent(event: Any) -> float:
    """Bytes that a rank sends in the collectives of an event, around a ring."""
    import torch.distributed as dist

    out, todo, n = 0.0, [event], dist.get_world_size()
    while todo:
        at = todo.pop()
        if at.name.startswith("c10d::") and at.name not in ("c10d::barrier", "c10d::monitored_barrier_"):
            first = at.extra_fields.inputs[0]
            match at.name:
                case "c10d::allreduce_":
                    size = 2 * sum(map(_bytes, first))
                case "c10d::_allgather_base_":
                    size = _bytes(first)
                case "c10d::_reduce_scatter_base_":
                    size = n * _bytes(first)
                case _:
                    raise AssertionError(f"a collective that is not counted: {at.name}")
            out += size * (n - 1) / n if size > AGREED else 0.0
        else:
            todo += at.children
    return out


def _bytes(tensor: Any) -> int:
    return int(math.prod(tensor.sizes)) * int(tensor.dtype.itemsize)


def measure_all(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from raypt.parallel import comm  # noqa: F401

    torch.set_num_threads(1)
    import torch.distributed as dist

    dist.init_process_group("gloo")
    return [measure(**case) for case in cases]
