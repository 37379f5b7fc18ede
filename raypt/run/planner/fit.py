"""Constants of the time model from measured runs: robust least squares on logarithms with weak priors.

The loss of a run is soft L1 of log(predicted / measured) at a scale of 2 %, so that a run with a fault of its own pulls
little; a constant that the runs do not tell stays near its prior.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from raypt.run.planner.step_time import Constants, Work, seconds

LOSS_SCALE = 0.02
PRIOR_WEIGHT = 0.01
PRIORS: dict[str, tuple[float, float, float, float]] = {
    "efficiency": (0.8, 3, 0.4, 1.0),
    "half_width": (900.0, 2, 1.0, 3000.0),
    "half_tokens": (300.0, 0.7, 1.0, 5000.0),
    "attention": (0.25, 2, 0.05, 1.0),
    "recompute": (0.75, 8, 0.5, 1.2),
    "overlap": (0.25, 1.5, 0.02, 0.6),
    "pressure": (0.4, 20, 0.01, 5.0),
    "intra": (1.2e11, 1.5, 1e10, 6e11),
    "inter": (4e10, 1.5, 3e9, 2e11),
    "spread": (200.0, 1, 4.0, 1e5),
    "fp8": (1.3, 2, 1.0, 2.0),
    "overhead_s": (0.01, 0.7, 1e-4, 0.2),
}
"""(where it is expected, weight, least, most) of each constant that sharded data parallelism tells."""
PIPELINE_PRIORS: dict[str, tuple[float, float, float, float]] = {
    "efficiency": (0.8, 3, 0.4, 1.0),
    "half_width": (700.0, 2, 1.0, 3000.0),
    "attention": (0.25, 2, 0.05, 1.0),
    "recompute": (0.9, 8, 0.5, 1.3),
    "traffic": (60.0, 1, 0.1, 1000.0),
    "tensor": (2.3e11, 3, 2e10, 6e11),
    "inter": (2.5e10, 2, 3e9, 2e11),
    "overhead_s": (0.03, 1, 1e-4, 1.0),
}
"""Those of tensor and pipeline parallelism (Megatron-LM's tables)."""
PIPELINE_FIXED: dict[str, float] = {"half_tokens": 1e-9, "overlap": 0.0, "pressure": 0.0, "spread": 1e12}


def fit(
    work: Work,
    step_s: npt.NDArray[np.float64],
    *,
    peak: float,
    bandwidth: float,
    priors: Mapping[str, tuple[float, float, float, float]] = PRIORS,
    fixed: Mapping[str, float] | None = None,
) -> Constants:
    """The constants with which the model explains the measured seconds of the runs in `work` best."""
    from scipy.optimize import least_squares  # not needed to plan with constants that are there

    names = list(priors)
    start, weight, low, high = (np.array([priors[n][i] for n in names]) for i in range(4))

    def constants(logs: npt.NDArray[np.float64]) -> Constants:
        found = {name: float(value) for name, value in zip(names, np.exp(logs), strict=True)}
        return Constants(**dict(fixed or {}), **found)

    def residuals(logs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        error: npt.NDArray[Any] = np.log(seconds(work, constants(logs), peak, bandwidth).step / step_s)
        return np.concatenate([error, PRIOR_WEIGHT * weight * (logs - np.log(start))])

    best = None
    for seed in range(2):
        begin = np.log(start) + (0.4 * np.random.default_rng(seed).normal(size=len(names)) if seed else 0.0)
        begin = np.clip(begin, np.log(low) + 1e-6, np.log(high) - 1e-6)
        found = least_squares(residuals, begin, bounds=(np.log(low), np.log(high)), loss="soft_l1", f_scale=LOSS_SCALE)
        if best is None or found.cost < best.cost:
            best = found
    assert best is not None
    return constants(best.x)
