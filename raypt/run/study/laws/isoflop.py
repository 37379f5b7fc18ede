"""Approaches 2 and 1 of Hoffmann et al. 2022: the best model size of each compute budget, and its power of the budget.

IsoFLOP: runs of one budget and several sizes; a parabola in log N through the runs around the lowest one has its vertex
at N*. Envelope: loss curves of several sizes; at each budget the curve that is lowest names N*. Both end in a straight
line of log N* over log C, whose slope is `a` (N* ~ C^a) and 1 - a that of D*.
"""

from dataclasses import dataclass

import numpy as np

from raypt.run.study.laws.bootstrap import LEVEL, RESAMPLES, deviation, interval, resample_weights
from raypt.run.study.laws.fitting import Estimate
from raypt.run.study.laws.robust import Array

POINTS = 5
"""Runs of a parabola: the lowest and two on each side. A parabola over a wider range bends with the law's asymmetry."""
BUDGETS = 200
"""Of an envelope, spaced evenly in log C (1,500 in the paper, over curves of as many points)."""
SAME_BUDGET = 0.05
"""Relative difference up to which two runs have one budget: steps are whole, so budgets are met within a step."""


@dataclass(frozen=True)
class Best:
    """The best size of one budget."""

    flop: float
    size: float
    tokens: float
    loss: float


@dataclass(frozen=True)
class Frontier:
    """N* over C, and its power law."""

    best: list[Best]
    left_out: list[tuple[float, str]]
    """Budgets (FLOP) without a best size, and why."""
    parameters: dict[str, Estimate]
    """a, b: exponents of N*(C) and D*(C); log N* = log k + a log C."""
    slope: float
    offset: float


def group_budgets(flop: Array) -> Array:
    """Number of the budget of each run: sorted budgets that follow one another within `SAME_BUDGET` are one."""
    order = np.argsort(flop, kind="stable")
    steps = np.diff(np.log(flop[order])) > np.log1p(SAME_BUDGET)
    number = np.empty(len(flop), int)
    number[order] = np.concatenate([[0], np.cumsum(steps)])
    return number


def vertex(size: Array, tokens: Array, loss: Array, points: int = POINTS) -> tuple[float, float, float] | str:
    """N*, D* and loss of one budget's runs, or why there is none."""
    order = np.argsort(size, kind="stable")
    n, d, log_loss = np.log(size[order]), np.log(tokens[order]), np.log(loss[order])
    if len(np.unique(n)) < 3:
        return "fewer than three sizes"
    lowest = int(np.argmin(log_loss))
    if n[lowest] in (n[0], n[-1]):
        return "the lowest loss is at the edge of the sizes"
    first = max(0, min(lowest - points // 2, len(n) - points))
    part = slice(first, first + points)
    curve = np.polyfit(n[part] - n[lowest], log_loss[part], 2)
    if curve[0] <= 0:
        return "the losses around the lowest one do not curve upwards"
    at = float(np.clip(n[lowest] - curve[1] / (2 * curve[0]), n[part][0], n[part][-1]))
    return float(np.exp(at)), float(np.exp(np.interp(at, n, d))), float(np.exp(np.polyval(curve, at - n[lowest])))


def isoflop(
    size: Array,
    tokens: Array,
    flop: Array,
    loss: Array,
    *,
    points: int = POINTS,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Frontier:
    """Approach 2 on runs of several budgets."""
    number = group_budgets(flop)
    best, left_out = [], []
    for budget in range(int(number.max()) + 1):
        runs = number == budget
        found = vertex(size[runs], tokens[runs], loss[runs], points)
        middle = float(np.exp(np.log(flop[runs]).mean()))
        if isinstance(found, str):
            left_out.append((middle, found))
        else:
            best.append(Best(middle, *found))
    return _frontier(best, left_out, resamples, seed, level)


def envelope(
    size: Array,
    tokens: Array,
    flop: Array,
    loss: Array,
    *,
    budgets: int = BUDGETS,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Frontier:
    """Approach 1 on loss curves: rows of one size are its curve.

    Budgets at which the lowest curve is that of the smallest or of the largest size there say nothing of N*.
    """
    curves = []
    for n in np.unique(size):
        rows = np.flatnonzero(size == n)
        rows = rows[np.argsort(flop[rows], kind="stable")]
        if len(rows) > 1:
            curves.append((n, np.log(flop[rows]), np.log(loss[rows]), np.log(tokens[rows])))
    best: dict[float, Best] = {}
    left_out = []
    grid = np.linspace(np.log(flop.min()), np.log(flop.max()), budgets)
    for c in grid:
        there = [curve for curve in curves if curve[1][0] <= c <= curve[1][-1]]
        losses = [float(np.interp(c, x, y)) for _, x, y, _ in there]
        if len(there) < 3:
            left_out.append((float(np.exp(c)), "fewer than three curves"))
            continue
        at = int(np.argmin(losses))
        if at in (0, len(there) - 1):
            left_out.append((float(np.exp(c)), "the lowest curve is that of the smallest or largest size"))
            continue
        n, x, _, d = there[at]
        best[float(c)] = Best(float(np.exp(c)), float(n), float(np.exp(np.interp(c, x, d))), float(np.exp(losses[at])))
    # A size is best over a range of budgets: each of its stretches is one observation, at its middle.
    middles: dict[float, list[Best]] = {}
    for entry in best.values():
        middles.setdefault(entry.size, []).append(entry)
    return _frontier([stretch[len(stretch) // 2] for stretch in middles.values()], left_out, resamples, seed, level)


def _frontier(best: list[Best], left_out: list[tuple[float, str]], resamples: int, seed: int, level: float) -> Frontier:
    c, n = np.log([b.flop for b in best]), np.log([b.size for b in best])
    if len(best) < 2:
        return Frontier(best, left_out, {}, np.nan, np.nan)
    counts = resample_weights(len(best), resamples, seed)
    slope, offset = (float(v[0]) for v in _line(c, n, np.ones((1, len(best)))))
    slopes, offsets = _line(c, n, counts)

    def estimate(value: float, resampled: Array) -> Estimate:
        if len(best) < 3:
            return Estimate(value, -np.inf, np.inf, np.nan)
        return Estimate(value, *interval(resampled, len(best), 2, level), deviation(resampled))

    with np.errstate(over="ignore"):
        parameters = {
            "a": estimate(slope, slopes),
            "b": estimate(1 - slope, 1 - slopes),
            "k": estimate(float(np.exp(offset)), np.exp(offsets)),
        }
    return Frontier(best, left_out, parameters, slope, offset)


def _line(x: Array, y: Array, weight_BR: Array) -> tuple[Array, Array]:
    """Slope and offset of weighted least squares, for each row of weights; nan where all weight is on one x."""
    total = weight_BR.sum(1)
    mean_x, mean_y = weight_BR @ x / total, weight_BR @ y / total
    dx = x - mean_x[:, None]
    spread = (weight_BR * dx * dx).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = np.where(spread > 1e-12, (weight_BR * dx * (y - mean_y[:, None])).sum(1) / spread, np.nan)
    return slope, mean_y - slope * mean_x
