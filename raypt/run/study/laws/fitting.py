"""A law fitted to a table: parameters with intervals, residuals, predictions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from raypt.run.study.laws.bootstrap import LEVEL, RESAMPLES, deviation, interval, resample_weights
from raypt.run.study.laws.robust import DELTA, Array, Columns, Law, Minimum, fit, refit

Named = Callable[[Array], dict[str, Array]]
"""From fitted parameters (B, P) to named quantities (B)."""
Minimise = Callable[[Law, Sequence[Array], Columns, Array, float], Minimum]
BATCH_ELEMENTS = 1 << 22
"""Resamples x runs x parameters that are refitted together: 32 MB an array."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval."""

    value: float
    low: float
    high: float
    deviation: float
    """Standard deviation over the bootstrap's resamples."""

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True)
class Fitted:
    """A law, its minimum and the minima of the resamples."""

    law: Law
    theta: Array
    resampled_BP: Array
    residual: Array
    """log(observed) - log(predicted), by run."""
    log_loss: Array
    level: float
    independent: int
    """Observations: runs, or groups of them if groups are resampled."""
    delta: float
    """Huber's delta of the fit."""

    @property
    def r2(self) -> float:
        """Share of the variance of the log loss that the law explains."""
        return self.r2_of(self.residual)

    def r2_of(self, residual: Array) -> float:
        """The same for the residuals of another law."""
        spread = self.log_loss - self.log_loss.mean()
        return 1 - float((residual**2).sum() / (spread**2).sum())

    def estimate(self, value: float, resampled: Array) -> Estimate:
        """A quantity with its interval over the resamples."""
        # Student's t and the degrees of freedom that the parameters take, but where intervals are wide as it is.
        wide = of_deviations(self.residual, self.delta)
        low, high = interval(resampled, None if wide else self.independent, len(self.theta), self.level)
        return Estimate(value, low, high, deviation(resampled))

    def estimates(self, named: Named) -> dict[str, Estimate]:
        """Named quantities with their intervals."""
        best, spread = named(self.theta[None]), named(self.resampled_BP)
        return {name: self.estimate(float(best[name][0]), spread[name]) for name in best}

    def predict(self, x: Columns, seed: int = 0) -> list[Estimate]:
        """The loss that a new run would show: the interval holds what is not known of the law and a run's own noise."""
        best = np.exp(self.law.log_loss(self.theta[None], x)[0][0])
        spread = self.law.log_loss(self.resampled_BP, x)[0]
        noise = np.random.default_rng(seed).choice(self.residual, spread.shape)
        resampled = np.exp(spread + noise)
        return [self.estimate(float(v), resampled[:, i]) for i, v in enumerate(best)]


def of_deviations(residual: Array, delta: float) -> bool:
    """Whether a fit by Huber's loss is one of absolute deviations, more than of squares: most residuals are beyond."""
    return bool(np.median(np.abs(residual)) > delta)


def fit_law(
    law: Law,
    starts: Sequence[Array],
    x: Columns,
    loss: Array,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
    delta: float = DELTA,
    groups: Array | None = None,
    minimise: Minimise = fit,
) -> Fitted:
    """Fit, then fit again to each resample of the runs (or of `groups` of them)."""
    log_loss = np.log(loss)
    minimum = minimise(law, starts, x, log_loss, delta)
    residual = log_loss - law.log_loss(minimum.theta[None], x)[0][0]
    counts = resample_weights(len(loss), resamples, seed, groups, smooth=of_deviations(residual, delta))
    size = max(1, BATCH_ELEMENTS // (len(loss) * len(minimum.theta)))
    parts = [refit(law, minimum.theta, x, log_loss, counts[i : i + size], delta) for i in range(0, resamples, size)]
    resampled = np.concatenate(parts) if parts else np.empty((0, len(minimum.theta)))
    independent = len(loss) if groups is None else len(np.unique(groups))
    return Fitted(law, minimum.theta, resampled, residual, log_loss, level, independent, delta)
