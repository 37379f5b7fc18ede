"""Who evaluates: one process, or the workers that a model is cut over."""

from typing import Any

import pytest

from raypt.config_io import validate
from raypt.run.evaluate import is_cut
from raypt.training.config import TrainConfig


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"workers": 4}, False),
        ({"workers": 2, "parallel": {"tensor": 2}}, True),
        ({"workers": 2, "parallel": {"context": 2}}, True),
        ({"workers": 4, "zero": {"stage": 2}}, False),
        ({"workers": 4, "zero": {"stage": 3}}, True),
        ({"workers": [1, 4], "zero": {"stage": 3}}, False),
    ],
)
def test_where_the_least_workers_hold_a_model_between_them_they_evaluate_it(
    settings: dict[str, Any], expected: bool
) -> None:
    assert is_cut(validate(TrainConfig, settings)) is expected
