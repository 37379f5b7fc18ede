"""Is this step's loss a jump? A pure function of the losses before it, so that all ranks come to the same answer."""

import math
from collections.abc import Sequence

from raypt.training.config import SpikeConfig


def is_spike(config: SpikeConfig, recent: Sequence[float], loss: float) -> bool:
    """Whether `loss` lies more than `sigma` standard deviations above the mean of the last `window` accepted losses;
    never before there are that many. A deviation below 0.1 % of the mean is taken as that: a run that has converged to
    a flat loss does not spike on noise.
    """
    if len(recent) < config.window:
        return False
    window = recent[-config.window :]
    mean = math.fsum(window) / len(window)
    deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in window) / len(window))
    return loss > mean + config.sigma * max(deviation, 1e-3 * abs(mean))
