import numpy as np

from raypt.dedup.config import FuzzyConfig
from raypt.dedup.empirical import rates


def overlapping(shared: int, own: int, seed: int) -> list[np.ndarray]:
    """Two sets of 64-bit hashes with `shared` members in common and `own` of each."""
    values = np.random.default_rng(seed).integers(0, 2**64, shared + 2 * own, dtype=np.uint64)
    return [np.sort(values[: shared + own]), np.sort(np.concatenate([values[:shared], values[shared + own :]]))]


def test_rates_of_pairs_of_one_similarity_are_those_of_theory() -> None:
    pairs = [overlapping(300, 50, seed) for seed in range(150)]
    sets = {2 * i + j: pairs[i][j] for i in range(150) for j in range(2)}
    (found,) = rates([(2 * i, 2 * i + 1) for i in range(150)], sets, FuzzyConfig())
    assert found["jaccard"] == 0.75
    assert found["pairs"] == 150
    assert abs(found["matched"] - found["expected"]) < 4 * np.sqrt(0.77 * 0.23 / 1500)


def test_documents_without_shingles_make_no_pairs() -> None:
    a, b = overlapping(100, 0, 1)
    assert rates([(1, 2, 3)], {1: a, 3: b}, FuzzyConfig())[0]["pairs"] == 1
    assert rates([(1, 2)], {}, FuzzyConfig()) == []
