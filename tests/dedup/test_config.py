import pytest
from pydantic import ValidationError

from raypt.dedup.config import FuzzyConfig


def test_the_default_layout_is_fineweb_s() -> None:
    assert FuzzyConfig().layout == (14, 8)


def test_a_threshold_chooses_the_layout() -> None:
    bands, rows = FuzzyConfig(threshold=0.9, num_perm=128).layout
    assert bands * rows <= 128
    assert rows > 8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bands": 14}, "bands and rows go together"),
        ({"bands": 14, "rows": 8, "threshold": 0.8}, "not all three"),
        ({"bands": 20, "rows": 8}, "need 160 permutations, num_perm is 112"),
    ],
)
def test_contradictory_layouts_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FuzzyConfig(**values)
