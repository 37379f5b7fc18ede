"""Worker processes that are started before their stage."""

import os
import sys
import time

import pytest
import ray

from raypt.ray_session import RaySection, session
from raypt.run.workers_ahead import MODULES, start_workers

pytestmark = pytest.mark.ray


@ray.remote(num_cpus=1)
def what_is_there() -> tuple[int, list[str]]:
    """Of a task's process: its number, and which of the imports to come it has made."""
    time.sleep(1)  # so that the other task has the other process
    return os.getpid(), [module for module in (*MODULES, "numba") if module in sys.modules]


def test_the_next_tasks_find_their_imports_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with session(RaySection(num_cpus=2, dashboard=False)):
        ray.get(start_workers())
        found = dict(ray.get([what_is_there.remote() for _ in range(2)]))
    assert len(found) == 2
    assert all(modules == [*MODULES, "numba"] for modules in found.values())
