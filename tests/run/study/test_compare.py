"""Differences between variants: what their intervals hold, and what is called noise."""

import math

import numpy as np
import pytest

from raypt.run.study.compare import bits_per_byte, difference


def drawn(rng: np.random.Generator, seeds: int, gap: float, luck: float = 0.01) -> tuple[np.ndarray, ...]:
    """Nats of a variant and its reference on 100 documents, and their bytes: documents differ far more than variants,
    each document answers to a variant in its own way, and each seed has its luck."""
    size = rng.integers(200, 4000, 100).astype(float)
    hard = rng.normal(1.5, 0.4, 100) * math.log(2)
    answers = gap + rng.normal(0, 0.05, 100)
    fortune = rng.normal(0, luck, (2, seeds, 1))
    reference = (hard + fortune[0] * math.log(2)) * size
    variant = (hard + (answers + fortune[1]) * math.log(2)) * size
    return variant, reference, size


# Of 120 draws a 95 % interval misses 6; more than 14, or none, comes with probability .001 and .002. With two seeds the
# bootstrap has three values of luck only, and is wide.
@pytest.mark.parametrize(("seeds", "luck", "least"), [(1, 0.0, 0), (3, 0.01, 0), (8, 0.01, 1)])
def test_intervals_hold_the_difference(seeds: int, luck: float, least: int) -> None:
    missed = 0
    for draw in range(120):
        rng = np.random.default_rng([draw, seeds])
        found = difference(*drawn(rng, seeds, 0.02, luck), resamples=300, seed=draw)
        # The truth that documents of any size are drawn around.
        missed += not found.low <= 0.02 <= found.high
    assert least <= missed <= 14


def test_what_variants_have_in_common_cancels() -> None:
    variant, reference, size = drawn(np.random.default_rng(0), 2, 0.02, 0.0)
    found = difference(variant, reference, size)
    apart = difference(variant, reference[:, ::-1], size)
    assert found.high - found.low < 0.3 * (apart.high - apart.low)


def test_equal_variants_differ_by_nothing() -> None:
    variant, _, size = drawn(np.random.default_rng(0), 2, 0.0)
    found = difference(variant, variant, size)
    assert (found.value, found.low, found.high) == (0, 0, 0)
    assert found.in_the_noise


def test_few_seeds_say_less() -> None:
    widths = []
    for seeds in (2, 3, 6):
        found = [difference(*drawn(np.random.default_rng(i), seeds, 0.0, 0.05), resamples=300) for i in range(20)]
        widths.append(np.mean([f.high - f.low for f in found]))
    assert widths[0] > widths[1] > widths[2]


def test_bits_per_byte_is_a_ratio_of_sums() -> None:
    nats = np.array([[math.log(2) * 100, math.log(2) * 300]])
    assert bits_per_byte(nats, np.array([100.0, 100.0])) == pytest.approx(2.0)
