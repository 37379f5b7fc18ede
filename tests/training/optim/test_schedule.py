"""Learning-rate schedules."""

import itertools

import pytest

from raypt.training.config import ScheduleConfig
from raypt.training.optim.schedule import lr_scale

TOTAL = 100


def scales(kind: str, **more: object) -> list[float]:
    config = ScheduleConfig.model_validate({"kind": kind, "warmup_steps": 10, "min_ratio": 0.1, **more})
    return [lr_scale(config, u, TOTAL) for u in range(TOTAL)]


@pytest.mark.parametrize("kind", ["cosine", "linear", "wsd", "constant"])
def test_warm_up_rises_linearly_from_above_zero_to_the_peak(kind: str) -> None:
    values = scales(kind)
    assert values[:11] == pytest.approx([(u + 1) / 11 for u in range(11)])


@pytest.mark.parametrize("kind", ["cosine", "linear", "wsd"])
def test_a_decay_ends_at_the_minimum_without_rising(kind: str) -> None:
    values = scales(kind)[10:]
    assert values[-1] == pytest.approx(0.1)
    assert all(b <= a for a, b in itertools.pairwise(values))


def test_cosine_is_half_way_in_the_middle() -> None:
    values = scales("cosine", warmup_steps=0, min_ratio=0.0)
    assert values[49] + values[50] == pytest.approx(1.0)


def test_wsd_is_flat_until_its_last_part() -> None:
    values = scales("wsd", decay_fraction=0.2)
    assert values[10:81] == [1.0] * 71
    assert values[81] < 1.0


def test_constant_stays_at_the_peak() -> None:
    assert scales("constant")[10:] == [1.0] * 90


def test_updates_beyond_the_end_stay_at_the_minimum() -> None:
    config = ScheduleConfig(warmup_steps=10)
    assert lr_scale(config, 10 * TOTAL, TOTAL) == pytest.approx(config.min_ratio)


def test_a_schedule_of_its_own_length_does_not_ask_how_long_the_run_is() -> None:
    own = ScheduleConfig(warmup_steps=10, steps=200)
    assert [lr_scale(own, u, TOTAL) for u in range(TOTAL)] == [lr_scale(own, u, 150) for u in range(TOTAL)]
    assert lr_scale(own, TOTAL - 1, TOTAL) > 0.5
    assert lr_scale(ScheduleConfig(warmup_steps=10, steps=50), 70, TOTAL) == pytest.approx(0.1)


def test_one_less_the_root_falls_to_half_by_a_quarter_of_the_decay() -> None:
    config = ScheduleConfig(kind="wsd", decay="1-sqrt", warmup_steps=0, min_ratio=0.0, decay_fraction=0.5)
    values = [lr_scale(config, u, 201) for u in range(201)]
    assert values[:102] == [1.0] * 101 + values[101:102]
    assert lr_scale(config, 126, 201) == pytest.approx(1 - (26 / 100) ** 0.5, abs=0.01)  # decay of 100 updates
    assert values[-1] == 0.0
