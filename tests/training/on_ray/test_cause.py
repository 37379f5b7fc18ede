"""Rank 1 of two that hold one model raises in a feed-forward layer: what the user is told, and when all have ended."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import ray
import torch
import torch.distributed as dist
from ray.train.v2.api.exceptions import WorkerGroupError

from raypt import ray_output
from raypt.causes import origin
from raypt.model.llama import MLP
from raypt.run.failure import message, root_cause
from raypt.training.on_ray import run
from raypt.training.on_ray.run import _worker
from tests.training import tiny_run
from tests.training.drivers import train_workers

AT_CALL = 40
"""Of a feed-forward layer: some steps in, in the midst of one."""
TIMEOUT_S = 30.0


class BrokenLayer(ArithmeticError):
    """As if: what a user's own layer raises."""


def broken_on_rank_1(config: dict[str, Any]) -> None:
    """The worker, whose rank 1 leaves its group a second before its error is out: the other hears of that first."""
    calls = 0

    def breaks(module: torch.nn.Module, arguments: Any) -> None:
        nonlocal calls
        if isinstance(module, MLP) and dist.get_rank() == 1:
            calls += 1
            if calls == AT_CALL:
                raise BrokenLayer(f"call {calls} of the layer")

    try:
        with torch.nn.modules.module.register_module_forward_pre_hook(breaks):
            _worker(config)
    except BrokenLayer:
        dist.destroy_process_group()
        time.sleep(1)
        raise


@dataclass
class Broken:
    said: list[str]
    """To the user, line by line."""
    ended_after_s: float
    """Between the error and the end of the last worker."""


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broken]:
    root = tmp_path_factory.mktemp("cause")
    tiny_run.prepare(root / "data")
    job = tiny_run.Job(str(root / "data"), str(root / "out"), tensor=2, max_failures=0, collective_timeout_s=TIMEOUT_S)
    ray.init(address="local", num_cpus=2, include_dashboard=False)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run, "_worker", broken_on_rank_1)
            patch.setattr(ray_output, "last", None)
            patch.setattr("tempfile.tempdir", str(root))
            with pytest.raises(WorkerGroupError) as raised:
                tiny_run.run(job)
            while train_workers(os.getpid()):
                time.sleep(0.1)
            known = origin(root_cause(raised.value))
            assert known is not None
            yield Broken(message(raised.value).splitlines(), time.time() - known.at)
    finally:
        ray.shutdown()


def test_the_error_of_the_rank_that_raised_is_told_with_its_place(broken: Broken) -> None:
    assert broken.said[0] == f"BrokenLayer: call {AT_CALL} of the layer"
    assert broken.said[1] == f"  rank 1 on node {os.uname().nodename}"
    assert broken.said[2].startswith(f"  at {__file__}:")


def test_all_workers_end_within_the_time_of_a_collective(broken: Broken) -> None:
    assert broken.ended_after_s < TIMEOUT_S
