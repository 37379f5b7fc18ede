"""Work over many items: the order of results is that of the items, with Ray and without."""

import functools
import subprocess
import sys
import time

import pytest
import ray

from raypt import tasks
from raypt.errors import UserError
from raypt.progress import TaskProgress
from raypt.tasks import run_tasks, together


def _slow_when_small(x: int) -> int:
    time.sleep(0.2 if x == 0 else 0.0)
    return x * x


def _refuse(x: int) -> int:
    raise UserError(f"file {x} is bad")


@pytest.fixture(scope="module")
def local_ray():
    ray.init(address="local", num_cpus=2, include_dashboard=False)
    yield
    ray.shutdown()


FAILING = """
import ray
from raypt.errors import UserError
from raypt.tasks import run_tasks

def refuse(x):
    raise UserError("bad")

ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
for _ in range(1000):
    try:
        run_tasks(refuse, [1], name="t")
    except UserError:
        pass
print("went on")
"""


@pytest.mark.ray
def test_a_driver_outlives_its_tasks_errors() -> None:
    # In a process of its own: cancelling a task that had just failed, Ray ended it within some hundred of them.
    done = subprocess.run([sys.executable, "-c", FAILING], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "went on", done.stderr[-2000:]


def test_without_ray_it_is_a_loop() -> None:
    assert run_tasks(_slow_when_small, [1, 2, 3], name="t") == [1, 4, 9]


def test_parts_of_one_work_are_counted_and_told_as_one(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0

    def slow(x: int) -> int:
        nonlocal now
        now += 4.0
        return x

    progress = TaskProgress("t", 9, lambda: now)
    with caplog.at_level("INFO", "raypt"):
        for part in ([1, 2, 3], [4, 5, 6], [7, 8, 9]):
            run_tasks(slow, part, name="t", progress=progress)
    assert [r.getMessage().partition("] ")[2].split(",")[0] for r in caplog.records] == [
        "3/9 tasks",
        "6/9 tasks",
        "9 tasks in 36 s",
    ]


def test_results_keep_the_order_of_the_items(local_ray: None) -> None:
    assert run_tasks(_slow_when_small, list(range(6)), name="t", max_in_flight=3) == [0, 1, 4, 9, 16, 25]


def test_any_picklable_callable_will_do(local_ray: None) -> None:
    assert run_tasks(functools.partial(pow, 2), [1, 2, 3], name="t") == [2, 4, 8]


def test_an_exception_in_a_task_is_raised_as_itself(local_ray: None) -> None:
    with pytest.raises(UserError, match="file 1 is bad"):
        run_tasks(_refuse, [1], name="t")


def test_small_neighbours_are_made_together_where_requests_cost_whatever_is_left_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "TOGETHER_BYTES", 100)
    sizes = [30, 30, 30, 230, 10, 10]
    assert together(range(6), sizes, "s3://b/run") == [[0, 1, 2], [3], [4, 5]]
    assert together([1, 2, 5], sizes, "s3://b/run") == [[1, 2], [5]]
    assert together(range(3), sizes, "/a/run") == [[0], [1], [2]]


def test_of_plenty_a_task_has_more_as_long_as_there_are_enough_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "TOGETHER_BYTES", 100)

    def groups(shards: int, *, as_now: bool) -> int:
        return len(together(range(shards), [100] * shards, "s3://b/run", as_now=as_now))

    assert [groups(n, as_now=True) for n in (16, 64, 256, 1024)] == [8, 8, 8, 32]
    monkeypatch.setattr(tasks.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(tasks, "cluster_cpus", lambda: 128.0)
    assert [groups(n, as_now=True) for n in (256, 1024, 16384)] == [256, 256, 512], "two for each CPU"
    assert [groups(n, as_now=False) for n in (32, 256, 512, 8192)] == [16, 16, 16, 256], "whatever the cluster is"
