"""Ray Data's loop rests while what comes after a stage is full."""

import time
from collections.abc import Iterator

import numpy as np
import pytest
import ray
import ray.data
from ray.data import ActorPoolStrategy, ExecutionResources

from raypt import metrics, ray_loop
from raypt.ray_loop import Rest, rest_when_idle

_BLOCK = 1 << 20


class _Fast:
    """Gives blocks of one mebibyte as fast as they are taken."""

    def __call__(self, batch: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        for _ in range(64):
            yield {"x": np.zeros(_BLOCK // 8, np.int64)}


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def _stream(*, rest: bool) -> ray.data.Dataset:
    dataset = ray.data.from_items([{"i": 0}]).map_batches(
        _Fast, batch_size=1, batch_format="numpy", compute=ActorPoolStrategy(size=1)
    )
    dataset.context.target_max_block_size = _BLOCK
    dataset.context.target_min_block_size = 1
    dataset.context.execution_options.resource_limits = ExecutionResources.for_limits(object_store_memory=8 * _BLOCK)
    dataset.context.enable_progress_bars = False
    dataset.context.custom_execution_callback_classes = []
    if rest:
        rest_when_idle(dataset.context)
    return dataset


def _cpu_while_nobody_takes(dataset: ray.data.Dataset) -> float:
    """CPU seconds a second of this process, where the loop runs, while its output is full."""
    batches = iter(dataset.iter_batches(batch_size=None, prefetch_batches=0))
    next(batches)
    time.sleep(1.5)  # until it is full
    started = time.perf_counter(), time.process_time()
    time.sleep(2.0)
    share = (time.process_time() - started[1]) / (time.perf_counter() - started[0])
    assert 1 + sum(1 for _ in batches) == 64  # nothing is lost by it
    return share


@pytest.mark.usefixtures("local_ray")
def test_a_full_stream_costs_a_fraction_of_what_rays_own_loop_takes() -> None:
    spinning, resting = (_cpu_while_nobody_takes(_stream(rest=rest)) for rest in (False, True))
    # measured: 0.5 to 1 core against 0.05; a third leaves room for a busy machine, on which both get less
    assert resting < spinning / 3, (resting, spinning)


@pytest.mark.usefixtures("local_ray")
def test_queues_and_actors_are_told_while_a_pass_goes_on_and_end_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float, str | None, str]] = []
    monkeypatch.setattr(metrics, "put", lambda name, value, run=None, *, task: told.append((name, value, run, task)))
    monkeypatch.setattr(ray_loop, "TELL_S", 0.0)
    dataset = _stream(rest=False)
    rest_when_idle(dataset.context, "a-run")
    dataset.set_name("bytes")
    batches = iter(dataset.iter_batches(batch_size=None, prefetch_batches=0))
    next(batches)
    time.sleep(1.0)
    assert 1 + sum(1 for _ in batches) == 64
    assert {(run, task) for _, _, run, task in told} == {("a-run", "bytes")}
    assert max(value for name, value, _, _ in told if name == "raypt_actors") == 1
    assert max(value for name, value, _, _ in told if name == "raypt_queue_bytes") >= _BLOCK
    assert {name: value for name, value, _, _ in told} == {"raypt_actors": 0, "raypt_queue_bytes": 0}


def test_a_context_gets_it_once() -> None:
    context = ray.data.DataContext()
    rest_when_idle(context)
    rest_when_idle(context)
    assert context.custom_execution_callback_classes == [Rest]
