"""Starting Ray on a machine that is busy."""

from collections.abc import Callable

import pytest

from raypt.ray_session import SLOW, STARTS, patiently

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
