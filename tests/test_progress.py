"""How far long work is: what is said, when, and to whom."""

import time

import pytest

from raypt.progress import WIDTH, Done, TaskProgress, bar, watched


@pytest.mark.parametrize(
    ("done", "total", "filled"), [(0, 7, 0), (1, 20, 1), (199, 200, WIDTH - 1), (200, 200, WIDTH), (0, 0, WIDTH)]
)
def test_a_bar_has_one_width_and_is_full_at_the_end_alone(done: int, total: int, filled: int) -> None:
    assert bar(done, total) == f"[{'#' * filled}{'.' * (WIDTH - filled)}]"


def told(seconds_each: float, total: int, caplog: pytest.LogCaptureFixture) -> tuple[list[str], list[Done]]:
    """Lines and notes of so many tasks that took so long each."""
    now, heard = 0.0, []
    progress = TaskProgress("read", total, lambda: now)
    with watched(heard.append), caplog.at_level("INFO", "raypt"):
        for _ in range(total):
            now += seconds_each
            progress.add()
    return [r.getMessage() for r in caplog.records], heard


def test_a_line_has_a_bar_the_rate_and_what_is_left(caplog: pytest.LogCaptureFixture) -> None:
    lines, heard = told(10.0, 4, caplog)
    assert lines == [
        "read: [#####...............] 1/4 tasks, 0.1/s, 30 s left",
        "read: [##########..........] 2/4 tasks, 0.1/s, 20 s left",
        "read: [###############.....] 3/4 tasks, 0.1/s, 10 s left",
        "read: [####################] 4 tasks in 40 s, 0.1/s",
    ]
    assert [note.done for note in heard] == [1, 2, 3, 4]


def test_of_what_is_done_within_ten_seconds_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert told(0.9, 10, caplog) == ([], [])


def test_what_has_gone_by_is_not_left_any_more() -> None:
    note = Done("read", 1, 4, 0.1, at=100.0)
    assert note.line(now=112.0).endswith("1/4 tasks, 0.1/s, 18 s left")
    assert note.line(now=999.0).endswith("0 s left")


def test_behind_the_block_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Done] = []
    with watched(heard.append):
        pass
    now = time.monotonic()
    progress = TaskProgress("read", 1, lambda: now)
    now += 60
    progress.add()
    assert not heard
