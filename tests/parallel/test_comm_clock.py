"""The parts of a step: what a rank waits for others is communication, in whichever part it waits."""

from typing import Any

import pytest

from tests.parallel.ranks import run_ranks

DELAY_S = 1.0
COLLECTIVE_PARTS = [("backward", stage) for stage in range(4)] + [("step", 1), ("step", 2), ("step", 3), ("forward", 3)]
"""Where each stage has a collective: forward gathers weights under stage 3 alone; stage 0 steps without one."""


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return run_ranks(2, "tests.parallel.cases", "late", tmp_path_factory.mktemp("late"), delay_s=DELAY_S)


@pytest.mark.parametrize(("part", "stage"), COLLECTIVE_PARTS)
def test_waiting_for_a_late_rank_is_communication(part: str, stage: int, late: list[Any]) -> None:
    """A step of this model takes some hundredths of a second: half the delay tells the two apart on a busy machine."""
    timing = late[0][f"{part}-{stage}"]
    assert timing["communication"] > DELAY_S / 2
    assert timing[part] < DELAY_S / 2


@pytest.mark.parametrize(("part", "stage"), [("backward", stage) for stage in range(4)] + [("forward", 3)])
def test_the_late_rank_itself_does_not_communicate_meanwhile(part: str, stage: int, late: list[Any]) -> None:
    timing = late[1][f"{part}-{stage}"]
    assert timing[part] > DELAY_S / 2
    assert timing["communication"] < DELAY_S / 2
