"""Loss as a function of the mixture's weights, and the mixture at which it is least.

Three regressions: linear and boosted trees (RegMix, Liu et al. 2024), and the data mixing law L = c + k exp(t . r) (Ye
et al. 2024). Which one to believe is what cross-validation says; the mixture is searched among random ones like those
that were trained, as RegMix does, since a regression says nothing outside of its runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from raypt.run.study.laws.boosting import boost
from raypt.run.study.laws.bootstrap import LEVEL, RESAMPLES
from raypt.run.study.laws.fitting import Fitted, fit_law
from raypt.run.study.laws.robust import Array, Columns, fit_together

Regression = Literal["linear", "exponential", "boosted"]
MIXING_DELTA = 0.02
"""Huber's delta for the mixing law, in log loss: runs of one size scatter by about 1 %, and their fit is not that of a
table read from a figure; at .001 it is a fit of the median and less certain."""
FOLDS = 5
CANDIDATES = 100_000
"""Random mixtures that are searched, and below, how many of the best are averaged: RegMix's figures."""
AVERAGED = 100
LEAST_CONCENTRATION, MOST_CONCENTRATION = 0.1, 5.0
"""RegMix draws Dirichlet weights around the natural shares with concentrations between these."""


@dataclass(frozen=True)
class MixingLaw:
    """L = c + k exp(t . r), weights r that sum to 1; fitted as log c and s_j = log k + t_j.

    A constant moves between k and all t_j, so only their sum can be fitted; `named` gives it to k, with the t_j summing
    to 0. Column: r_<source> for each source.
    """

    sources: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return ("log c", *(f"s_{s}" for s in self.sources))

    def log_loss(self, theta_BP: Array, x: Columns) -> tuple[Array, Array]:
        r_RS = np.stack([x[f"r_{s}"] for s in self.sources], -1)
        inner = theta_BP[:, 1:] @ r_RS.T
        floor = np.broadcast_to(theta_BP[:, :1], inner.shape)
        value = np.logaddexp(floor, inner)
        share = np.exp(inner - value)
        return value, np.concatenate([(1 - share)[..., None], share[..., None] * r_RS], -1)

    def starts(self, x: Columns, loss: Array) -> list[Array]:
        """Shares of c in the least loss; the s_j by least squares of log(L - c)."""
        r_RS = np.stack([x[f"r_{s}"] for s in self.sources], -1)
        out = []
        for share in (0.3, 0.6, 0.9):
            c = share * loss.min()
            s, *_ = np.linalg.lstsq(r_RS, np.log(loss - c), rcond=None)
            out.append(np.array([np.log(c), *s]))
        return out

    def named(self, theta_BP: Array) -> dict[str, Array]:
        """c, k and t_<source>, the paper's names."""
        k = theta_BP[:, 1:].mean(1)
        with np.errstate(over="ignore"):
            out = {"c": np.exp(theta_BP[:, 0]), "k": np.exp(k)}
        return out | {f"t_{s}": theta_BP[:, 1 + i] - k for i, s in enumerate(self.sources)}


@dataclass(frozen=True)
class Score:
    """How well a regression predicts runs that it was not fitted to."""

    regression: Regression
    error: float
    """Root mean square of log(predicted) - log(observed), cross-validated."""
    spearman: float


@dataclass(frozen=True)
class MixtureFit:
    """The regressions of one target, the best of them first."""

    sources: tuple[str, ...]
    scores: list[Score]
    law: Fitted
    held_out: Array
    """log(observed) - log(predicted) of the best regression, each run by a fit without it."""
    models: dict[Regression, Callable[[Array], Array]]

    @property
    def best(self) -> Regression:
        return self.scores[0].regression

    def predict(self, r_RS: Array, regression: Regression | None = None) -> Array:
        """Loss of mixtures, (runs, sources)."""
        return self.models[regression or self.best](r_RS)


def shares(weights: Array) -> Array:
    """Rows scaled to a sum of 1: tables round theirs to three digits."""
    return np.asarray(weights / weights.sum(1, keepdims=True))


def columns(sources: tuple[str, ...], r_RS: Array) -> dict[str, Array]:
    return {f"r_{s}": r_RS[:, i] for i, s in enumerate(sources)}


def _model(regression: Regression, law: MixingLaw, r_RS: Array, loss: Array) -> Callable[[Array], Array]:
    log_loss = np.log(loss)
    if regression == "boosted":
        boosted = boost(r_RS, log_loss)
        return lambda r: np.exp(boosted.predict(r))
    if regression == "linear":
        slopes, *_ = np.linalg.lstsq(r_RS, loss, rcond=None)  # the weights sum to 1: the constant is in the slopes
        return lambda r: r @ slopes
    x = columns(law.sources, r_RS)
    fitted = fit_law(law, law.starts(x, loss), x, loss, resamples=0, delta=MIXING_DELTA, minimise=fit_together)
    return lambda r: _predict(fitted, r)


def _predict(fitted: Fitted, r_RS: Array) -> Array:
    assert isinstance(fitted.law, MixingLaw)
    value, _ = fitted.law.log_loss(fitted.theta[None], columns(fitted.law.sources, r_RS))
    return np.asarray(np.exp(value[0]))


def fit_mixture(
    sources: tuple[str, ...],
    weights_RS: Array,
    loss: Array,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> MixtureFit:
    """Fit all regressions, and rank them by cross-validated error."""
    r_RS, law = shares(weights_RS), MixingLaw(sources)
    x = columns(sources, r_RS)
    law_fit = fit_law(
        law,
        law.starts(x, loss),
        x,
        loss,
        resamples=resamples,
        seed=seed,
        level=level,
        delta=MIXING_DELTA,
        minimise=fit_together,
    )
    fold = np.random.default_rng(seed).permutation(len(loss)) % FOLDS
    regressions: tuple[Regression, ...] = ("linear", "exponential", "boosted")
    predicted = {name: np.empty(len(loss)) for name in regressions}
    for name in regressions:
        for k in range(FOLDS):
            model = _model(name, law, r_RS[fold != k], loss[fold != k])
            predicted[name][fold == k] = model(r_RS[fold == k])
    residual = {name: np.log(loss) - np.log(np.maximum(p, 1e-12)) for name, p in predicted.items()}
    scores = [
        Score(name, float(np.sqrt((residual[name] ** 2).mean())), float(stats.spearmanr(predicted[name], loss)[0]))
        for name in regressions
    ]
    scores.sort(key=lambda score: score.error)
    models: dict[Regression, Callable[[Array], Array]] = {
        "linear": _model("linear", law, r_RS, loss),
        "exponential": lambda r: _predict(law_fit, r),
        "boosted": _model("boosted", law, r_RS, loss),
    }
    return MixtureFit(sources, scores, law_fit, residual[scores[0].regression], models)


@dataclass(frozen=True)
class BestMixture:
    """The mixture with the least predicted loss, against equal shares of the sources."""

    weights: Array
    loss: float
    gain: float
    """Predicted log loss of the reference less that of the mixture."""
    low: float
    high: float
    """Interval of the gain: its size, plus and minus what cross-validation says two predictions may be off."""


def best_mixture(fitted: MixtureFit, reference: Array, *, seed: int = 0, level: float = LEVEL) -> BestMixture:
    """Search random mixtures around `reference` (shares of the sources); the average of the best ones.

    A step of the boosted trees is flat: the best hundred candidates are averaged, as RegMix does.
    """
    rng = np.random.default_rng(seed)
    concentration = rng.uniform(LEAST_CONCENTRATION, MOST_CONCENTRATION, CANDIDATES)
    drawn = rng.standard_gamma(np.maximum(concentration[:, None] * reference[None], 1e-3))
    candidates = shares(drawn + 1e-12)
    predicted = fitted.predict(candidates)
    weights = candidates[np.argsort(predicted, kind="stable")[:AVERAGED]].mean(0)
    loss, base = fitted.predict(np.stack([weights, reference]))
    gain = float(np.log(base) - np.log(loss))
    spread = float(np.quantile(np.abs(fitted.held_out), level)) * np.sqrt(2)
    return BestMixture(weights, float(loss), gain, gain - spread, gain + spread)
