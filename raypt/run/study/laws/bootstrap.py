"""Bootstrap intervals of fitted quantities."""

import math

import numpy as np
from scipy import stats

from raypt.run.study.laws.robust import Array

LEVEL = 0.95
RESAMPLES = 1000
"""Of the percentile interval's ends at 95 % (25 resamples beyond each)."""


def resample_counts(runs: int, resamples: int, seed: int, groups: Array | None = None) -> Array:
    """How often each run is drawn, (B, R): runs with replacement, or all runs of a drawn group."""
    rng = np.random.default_rng(seed)
    if groups is None:
        return rng.multinomial(runs, np.full(runs, 1 / runs), size=resamples).astype(float)
    _, index = np.unique(groups, return_inverse=True)
    count = int(index.max()) + 1
    return rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(float)[:, index]


def tail(level: float, observations: int, parameters: int) -> float:
    """The share of resamples beyond each end of the expanded percentile interval (Hesterberg 2015, section 4.2).

    A percentile interval is as narrow as a normal one with the plug-in deviation: too narrow by sqrt((n - p) / n) and
    by t against z. The share is the one at which a normal distribution gives the t interval.
    """
    free = max(observations - parameters, 1)
    t = stats.t.ppf((1 + level) / 2, free)
    return float(stats.norm.cdf(-t * math.sqrt(observations / free)))


def interval(values: Array, observations: int, parameters: int, level: float = LEVEL) -> tuple[float, float]:
    """Expanded percentile interval of a fitted quantity over its resamples; values that are not finite are extremes."""
    share = tail(level, observations, parameters)
    kept = np.sort(values[~np.isnan(values)])
    if not len(kept):
        return math.nan, math.nan
    low, high = np.quantile(kept, [share, 1 - share], method="inverted_cdf")
    return float(low), float(high)


def deviation(values: Array) -> float:
    """Standard deviation over the resamples."""
    return float(np.std(values[np.isfinite(values)]))
