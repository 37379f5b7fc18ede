"""Starting Ray on a machine that is busy."""

import os
import time
from collections.abc import Callable

import psutil
import pytest
import ray

from raypt.ray_session import SLOW, STARTS, RaySection, environment, patiently, session

LATE = Exception(f"The current node {SLOW}. This could happen because some of the raylet failed to startup")


def starts(*outcomes: object) -> tuple[Callable[[], object], list[object]]:
    """What has these outcomes one after the other, and those it had."""
    had: list[object] = []

    def start() -> object:
        had.append(outcomes[len(had)])
        if isinstance(had[-1], Exception):
            raise had[-1]
        return had[-1]

    return start, had


def test_a_ray_that_is_late_is_started_again() -> None:
    start, had = starts(LATE, "up")
    assert patiently(start) == "up"
    assert len(had) == 2


def test_a_ray_that_is_always_late_ends_the_job() -> None:
    start, had = starts(*[LATE] * STARTS)
    with pytest.raises(Exception, match=SLOW):
        patiently(start)
    assert len(had) == STARTS


def test_another_error_is_told_at_once() -> None:
    start, had = starts(ConnectionError("no cluster"), "up")
    with pytest.raises(ConnectionError):
        patiently(start)
    assert len(had) == 1


def test_a_variable_is_set_for_the_block_unless_a_person_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYPT_TEST_THEIRS", "theirs")
    with environment({"RAYPT_TEST_THEIRS": "ours", "RAYPT_TEST_OURS": "ours"}):
        assert (os.environ["RAYPT_TEST_THEIRS"], os.environ["RAYPT_TEST_OURS"]) == ("theirs", "ours")
    assert os.environ["RAYPT_TEST_THEIRS"] == "theirs"
    assert "RAYPT_TEST_OURS" not in os.environ


@ray.remote(num_cpus=0.25)
def pid() -> int:
    time.sleep(0.5)
    return os.getpid()


@pytest.mark.ray
def test_workers_wait_for_their_next_task_in_a_ray_of_the_jobs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with session(RaySection(num_cpus=1, dashboard=False)):
        # Four for one CPU: three too many when they are idle, for Ray's default, which ends them after a second.
        first = set(ray.get([pid.remote() for _ in range(4)]))
        time.sleep(4)
        alive = {process for process in first if psutil.pid_exists(process)}
        assert len(first) > 1
        assert alive == first
