"""Fits of a law to losses: Huber's loss on logarithms, from many starts, and again for each bootstrap resample.

The objective is that of Hoffmann et al. 2022 (approach 3), as Besiroglu et al. 2024 mend it: the *sum* of the Huber
loss (delta 1e-3) of log(predicted) - log(observed), its exact gradient, and a tolerance that is reached. The original
took the mean: with residuals of 1e-2 and a delta of 1e-3 that is 1e-5, and L-BFGS at its default tolerance stops where
it began.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize

Array = NDArray[np.float64]
Columns = Mapping[str, Array]
"""Columns of a table by name, one value a run."""

DELTA = 1e-3
"""Half-width of Huber's quadratic part, in log loss: Hoffmann et al. 2022."""
GRADUAL = (1.0, 0.1, 1e-2)
"""Deltas of a second descent, before the last one: the quadratic problem has a broad basin, which outliers can move."""
DESCENTS = 5
"""Starts of a grid that are followed."""
REFIT_STEPS = 300
REFIT_TOLERANCE = 1e-9
"""Relative decrease of the objective below which a refit has converged."""


class Law(Protocol):
    """A family of losses: B vectors of P parameters, R runs."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters, as they are fitted (logarithms included)."""

    def log_loss(self, theta_BP: Array, x: Columns) -> tuple[Array, Array]:
        """log loss (B, R) and its derivative by the parameters (B, R, P)."""


@dataclass(frozen=True)
class Minimum:
    """Where a fit ended."""

    theta: Array
    objective: float
    """Sum of the Huber losses."""
    start: int
    """Index of the start that led here."""


def huber(residual: Array, delta: float) -> Array:
    size = np.abs(residual)
    return np.where(size <= delta, 0.5 * residual * residual, delta * (size - 0.5 * delta))


def objective(law: Law, theta: Array, x: Columns, log_loss: Array, delta: float = DELTA) -> tuple[float, Array]:
    """The sum over runs, and its gradient."""
    value, jacobian = law.log_loss(theta[None], x)
    residual = value[0] - log_loss
    slope = np.clip(residual, -delta, delta)
    return float(huber(residual, delta).sum()), slope @ jacobian[0]


def descend(law: Law, start: Array, x: Columns, log_loss: Array, delta: float = DELTA) -> tuple[Array, float]:
    """The lowest minimum, and its objective, of three descents from one start.

    L-BFGS at once; L-BFGS with the delta narrowed step by step; the same by the steps of `refit`. Of 400 starts on
    Chinchilla's runs 3 lead the first two into a law that lacks a term, and none all three.
    """
    options = {"maxiter": 5000, "maxfun": 20000, "ftol": 1e-15, "gtol": 1e-11, "maxcor": 20}

    def at(width: float, theta: Array) -> OptimizeResult:
        return minimize(
            lambda p: objective(law, p, x, log_loss, width), theta, jac=True, method="L-BFGS-B", options=options
        )

    narrowed, stepped = start, start
    for width in (*(d for d in GRADUAL if d > delta), delta):
        narrowed = np.asarray(at(width, narrowed).x)
        stepped = refit(law, stepped, x, log_loss, np.ones((1, len(log_loss))), width)[0]
    found = [np.asarray(at(delta, start).x), narrowed, stepped]
    heights = [objective(law, theta, x, log_loss, delta)[0] for theta in found]
    lowest = int(np.argmin(np.nan_to_num(heights, nan=np.inf)))
    return found[lowest], heights[lowest]


def fit(law: Law, starts: Sequence[Array], x: Columns, log_loss: Array, delta: float = DELTA) -> Minimum:
    """The lowest minimum that the starts lead to: the lowest `DESCENTS` of them are followed down."""
    assert len(starts), "a fit needs a start"
    heights = [objective(law, start, x, log_loss, delta)[0] for start in starts]
    followed = sorted(range(len(starts)), key=lambda i: heights[i])[:DESCENTS]
    found = {i: descend(law, starts[i], x, log_loss, delta) for i in followed}
    best = min(followed, key=lambda i: found[i][1])
    return Minimum(*found[best], best)


def fit_together(law: Law, starts: Sequence[Array], x: Columns, log_loss: Array, delta: float = DELTA) -> Minimum:
    """`fit` by the steps of `refit`: for laws of many parameters, on which L-BFGS takes thousands of steps."""
    found = refit(law, np.stack(starts), x, log_loss, np.ones((len(starts), len(log_loss))), delta)
    heights = [objective(law, theta, x, log_loss, delta)[0] for theta in found]
    best = int(np.argmin(heights))
    return Minimum(found[best], heights[best], best)


def refit(law: Law, start: Array, x: Columns, log_loss: Array, counts_BR: Array, delta: float = DELTA) -> Array:
    """The minima (B, P) near a fitted one when each run counts as often as `counts_BR` says.

    All resamples are taken together through Levenberg-Marquardt steps on reweighted squares: Huber's loss is bounded
    from above by a parabola with weight min(1, delta / |residual|), so every accepted step lowers the objective.
    `start` is one vector, or one a resample.
    """
    batch, size = len(counts_BR), start.shape[-1]
    theta = np.broadcast_to(start, (batch, size)).copy()
    damping = np.full(batch, 1e-3)
    live = np.arange(batch)
    value, jacobian = law.log_loss(theta, x)
    observed = np.broadcast_to(log_loss, value.shape)
    residual = value - observed
    height = (counts_BR * huber(residual, delta)).sum(1)
    still = np.zeros(batch, int)
    for _ in range(REFIT_STEPS):
        r, jac, c = residual[live], jacobian[live], counts_BR[live]
        weight = c * np.minimum(1.0, delta / np.maximum(np.abs(r), 1e-300))
        weighted = jac * weight[..., None]
        normal = weighted.transpose(0, 2, 1) @ jac
        gradient = (weighted.transpose(0, 2, 1) @ r[..., None])[..., 0]
        diagonal = np.einsum("bpp->bp", normal)
        ridge = damping[live, None] * diagonal + 1e-12 * diagonal.max(1, keepdims=True) + 1e-300
        step = np.linalg.solve(normal + ridge[:, :, None] * np.eye(size), -gradient[..., None])[..., 0]
        tried = theta[live] + step
        value, slope = law.log_loss(tried, x)
        new_residual = value - observed[live]
        new_height = (c * huber(new_residual, delta)).sum(1)
        lower = new_height < height[live]  # also False for nan
        gain = np.where(lower, (height[live] - new_height) / np.maximum(height[live], 1e-300), 0.0)
        chosen = live[lower]
        theta[chosen], residual[chosen], jacobian[chosen] = tried[lower], new_residual[lower], slope[lower]
        height[chosen] = new_height[lower]
        damping[live] = np.clip(np.where(lower, damping[live] / 4, damping[live] * 5), 1e-9, 1e9)
        still[live] = np.where(gain < REFIT_TOLERANCE, still[live] + 1, 0)
        live = live[still[live] < 4]
        if not len(live):
            break
    return theta
