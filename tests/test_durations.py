"""What a person is told of how long things take."""

import re

import pytest

from raypt.durations import RECENT, Pace, clock, duration

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (65, "1 min 5 s"), (3600, "1 h"), (7860, "2 h 11 min"), (273600, "3 d 4 h")]
)
def test_durations_are_for_people(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_time_of_another_day_has_its_day() -> None:
    assert re.fullmatch(r"(\d\d \w{3} )?\d\d:\d\d", clock(0))
    assert re.fullmatch(r"\d\d \w{3} \d\d:\d\d", clock(86400))


def test_one_long_step_does_not_move_what_is_left() -> None:
    pace = Pace()
    for seconds in [30.0, *[0.5] * 20, 40.0]:  # the first compiles, the last was slow for another reason
        pace.add(seconds)
    assert pace.left(100) == 50.0


def test_what_is_left_follows_a_run_that_became_slower() -> None:
    pace = Pace()
    for seconds in [1.0] * 1000 + [2.0] * (RECENT // 2 + 1):
        pace.add(seconds)
    assert pace.left(10) == 20.0


def test_the_second_step_forgets_the_first() -> None:
    pace = Pace()
    pace.add(30.0)
    assert pace.left(2) == 60.0
    pace.add(0.5)
    assert pace.left(2) == 1.0
