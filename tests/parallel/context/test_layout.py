"""Which cuts of a sequence there are."""

import pytest

from raypt.model import ModelConfig
from raypt.parallel.context.layout import positions, valid_sizes


@pytest.mark.parametrize(
    ("heads", "kv", "tensor", "sizes"),
    [
        (8, 8, 1, [1, 2, 4, 8]),
        (12, 4, 1, [1, 2, 4, 12]),
        (12, 4, 2, [1, 2, 6]),
        (8, 2, 4, [1, 2]),
        (7, 1, 1, [1, 7]),
    ],
)
def test_query_heads_divide_and_key_value_heads_divide_or_are_repeated_evenly(
    heads: int, kv: int, tensor: int, sizes: list[int]
) -> None:
    model = ModelConfig(vocab_size=8, hidden_size=16 * heads, num_heads=heads, num_kv_heads=kv)
    assert valid_sizes(model, tensor) == sizes


def test_the_runs_of_positions_cover_a_row_once() -> None:
    assert [list(range(12))[positions(12, 3, r)] for r in range(3)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
