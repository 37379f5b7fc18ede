"""MinHash-LSH parameters: permutations, bands x rows, and the S-curve they give."""

import functools

import numpy as np

from raypt.kept import kept_array
from raypt.packages import package_version


@functools.cache
def permutations(num_perm: int, seed: int) -> np.ndarray:
    """uint32[2, num_perm]: datasketch's own affine32 permutations h -> a h + b mod 2^32 (a odd)."""

    def make() -> np.ndarray:
        from datasketch import MinHash  # loads scipy.integrate: half a second

        return np.array(MinHash(num_perm=num_perm, seed=seed, scheme="affine32").permutations, np.uint32)

    return kept_array(f"affine32-{num_perm}-{seed}-datasketch-{package_version('datasketch')}", make)


def match_probability(jaccard: np.ndarray | float, bands: int, rows: int) -> np.ndarray:
    """The S-curve: the probability that two documents of this Jaccard similarity share a band, 1 - (1 - j^r)^b.

    Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4.2.
    """
    return np.asarray(1.0 - (1.0 - np.asarray(jaccard, np.float64) ** rows) ** bands)


def jaccard_at(probability: float, bands: int, rows: int) -> float:
    """The Jaccard similarity whose pairs share a band with this probability."""
    return float((1.0 - (1.0 - probability) ** (1.0 / bands)) ** (1.0 / rows))


def choose_bands(threshold: float, num_perm: int) -> tuple[int, int]:
    """(bands, rows) with bands * rows <= num_perm whose S-curve has the least error area around `threshold`.

    The error is the probability of a match below the threshold plus that of a miss above it, integrated over the
    similarity with equal weights (as datasketch.MinHashLSH chooses). Ties go to more bands.
    """
    below = np.linspace(0.0, threshold, 201)
    above = np.linspace(threshold, 1.0, 201)
    best: tuple[float, int, int] | None = None
    for rows in range(1, num_perm + 1):
        for bands in range(num_perm // rows, 0, -1):
            false_match = np.trapezoid(match_probability(below, bands, rows), below)
            miss = np.trapezoid(1.0 - match_probability(above, bands, rows), above)
            error = float(false_match + miss)
            if best is None or error < best[0] - 1e-12:
                best = (error, bands, rows)
    assert best is not None
    return best[1], best[2]
