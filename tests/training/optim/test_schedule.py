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
