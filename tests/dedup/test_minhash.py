import numpy as np
import pytest

from raypt.dedup.minhash import choose_bands, jaccard_at, match_probability


def test_s_curve_of_fineweb_parameters() -> None:
    """The probabilities the FineWeb paper gives for 14 bands x 8 rows."""
    found = match_probability(np.array([0.7, 0.75, 0.8, 0.85]), 14, 8)
    assert found == pytest.approx([0.565, 0.772, 0.924, 0.988], abs=2e-3)


def test_jaccard_at_inverts_the_s_curve() -> None:
    assert match_probability(jaccard_at(0.5, 14, 8), 14, 8) == pytest.approx(0.5)


def test_chosen_bands_are_the_best_split_of_the_permutations() -> None:
    bands, rows = choose_bands(0.8, 128)
    assert bands * rows <= 128
    grid = np.linspace(0, 1, 2001)

    def error(b: int, r: int) -> float:
        p = match_probability(grid, b, r)
        return float(np.trapezoid(np.where(grid < 0.8, p, 1 - p), grid))

    best = min(error(b, r) for r in range(1, 129) for b in range(1, 128 // r + 1))
    assert error(bands, rows) == pytest.approx(best, abs=1e-4)


def test_a_higher_threshold_chooses_more_rows() -> None:
    assert choose_bands(0.9, 128)[1] > choose_bands(0.5, 128)[1]
