"""Sums of squares that no cut changes."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from raypt.parallel.zero.exact.norm import folded_squares, folds, largest


def square(parts: list[Tensor]) -> float:
    """As ranks do it that have a part each."""
    top = max(largest(part) for part in parts)
    count = sum(part.numel() for part in parts)
    lists = [folded_squares(part, top, count) for part in parts]
    return math.fsum(sum(column) for column in zip(*lists, strict=True))


def values(count: int, spread: float) -> Tensor:
    """Magnitudes over many powers of ten, as gradients have them."""
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, generator=generator) * torch.exp(spread * torch.randn(count, generator=generator))


@pytest.mark.parametrize("spread", [0.0, 3.0, 8.0])
def test_no_cut_and_no_order_changes_a_bit(spread: float) -> None:
    x = values(70_001, spread)
    random, want = np.random.default_rng(1), square([x])
    for parts in (2, 3, 64):
        cuts = [0, *sorted(random.integers(0, x.numel(), parts - 1).tolist()), x.numel()]
        pieces = [x[low:high] for low, high in itertools.pairwise(cuts)]
        assert square([pieces[i] for i in random.permutation(parts)]) == want


@pytest.mark.parametrize("spread", [0.0, 3.0, 8.0])
def test_the_sum_is_that_of_exact_arithmetic(spread: float) -> None:
    x = values(5000, spread)
    exact = float(sum(Fraction(v) ** 2 for v in x.tolist()))
    assert square([x]) == pytest.approx(exact, rel=2.0**-32)  # the bits that `folds` asks for


def test_what_is_not_finite_is_seen_and_nothing_is_nothing() -> None:
    for bad in (math.nan, math.inf, -math.inf):
        assert largest(torch.tensor([1.0, bad, 2.0])) == math.inf
    assert largest(torch.zeros(0)) == 0.0
    assert square([torch.zeros(5), torch.zeros(0)]) == 0.0
    tiny = torch.full((3,), 1e-45)
    assert square([tiny]) == pytest.approx(3 * float(tiny[0]) ** 2)


def test_units_are_as_many_as_the_count_needs() -> None:
    assert [folds(n) for n in (1, 1 << 12, 1 << 24, 1 << 33)] == [1, 2, 3, 4]
