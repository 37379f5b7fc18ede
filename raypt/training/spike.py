"""Is a step's loss or gradient norm a jump? A pure function of the steps before it: all ranks come to one answer."""

import math
from collections.abc import Sequence


def limit(sigma: float, window: int, recent: Sequence[float]) -> float | None:
    """The value above which the next one is a spike: `sigma` standard deviations above the mean of the last `window`
    accepted ones; None before there are that many. A deviation below 0.1 % of the mean is taken as that: a run that has
    converged to a flat loss does not spike on noise.
    """
    if len(recent) < window:
        return None
    last = recent[-window:]
    mean = math.fsum(last) / len(last)
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in last) / len(last))
    return mean + sigma * max(deviation, 1e-3 * abs(mean))
