"""What schedules cost by themselves, measured."""

from pathlib import Path

import pytest

from raypt.parallel.pipeline.schedule import Name, idle_formula
from tests.parallel.ranks import run_ranks

SCHEDULES: list[tuple[Name, int]] = [
    ("gpipe", 1),
    ("1f1b", 1),
    ("interleaved_1f1b", 2),
    ("zero_bubble", 1),
    ("zero_bubble", 2),
]
DEVICES, MICRO_BATCHES = 4, 8


@pytest.mark.slow
def test_stages_that_only_sleep_idle_as_the_formula_says(tmp_path: Path) -> None:
    """Within 0.04: between two sleeps, Python and gloo take 1 to 2 ms of 15 to 120."""
    arguments = {"schedules": SCHEDULES, "micro_batches": MICRO_BATCHES}
    (found, *others) = run_ranks(DEVICES, "tests.parallel.pipeline.sleeping", "idle", tmp_path, **arguments)
    print(found)
    assert others == [found] * (DEVICES - 1)
    for (name, virtual), idle in zip(SCHEDULES, found, strict=True):
        assert idle == pytest.approx(idle_formula(name, DEVICES, MICRO_BATCHES, virtual), abs=0.04), (name, virtual)
    _, one_by_one, interleaved, zero_bubble, interleaved_zero_bubble = found
    assert one_by_one > interleaved > zero_bubble > interleaved_zero_bubble
