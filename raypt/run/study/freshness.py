"""Loss by the time between training text and test text (Luu et al. 2022; Longpre et al. 2023)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from raypt.errors import UserError
from raypt.run.study.compare import Difference
from raypt.run.study.laws.bootstrap import LEVEL, RESAMPLES
from raypt.run.study.laws.robust import Array


@dataclass(frozen=True)
class Freshness:
    """Training periods are rows, test periods columns."""

    periods: tuple[str, ...]
    times_P: Array
    """Middle of each period."""
    loss_PP: Array
    """Bits per byte."""
    slope: Difference
    """Bits per byte that a unit of time between training and test costs: of each test period the loss of the others'
    models less that of its own, through the origin by least squares over all pairs."""
    toward_older: Difference
    """The same slope of test text older than the training text alone."""
    toward_newer: Difference
    documents: tuple[int, ...]
    """Held out, by period."""

    @property
    def gap_PP(self) -> Array:
        """Against the model of the test period itself."""
        return self.loss_PP - np.diag(self.loss_PP)[None]


def times(periods: Sequence[str]) -> Array:
    """The middle of ranges as `raypt.tokens.groups` names them."""
    ends = [p.rsplit("-", 1) for p in periods]
    return np.array([(int(low) + int(high) - 1) / 2 for low, high in ends])


def check(periods: Sequence[str], group_D: Sequence[str]) -> None:
    """Raises UserError if a period has fewer than two of the documents to be judged on."""
    for period in periods:
        count = sum(g == period for g in group_D)
        if count < 2:
            raise UserError(
                f"periods: {count} documents of {period} are held out; raise heldout.fraction or move periods.edges"
            )


def freshness(
    nats_PSD: Array, bytes_D: Array, group_D: Sequence[str], periods: Sequence[str], *, seed: int = 0
) -> Freshness:
    """Of models trained on each period (rows of `nats_PSD`, in their order), judged on documents of all.

    Documents are drawn with replacement within each test period, and seeds as in `compare.difference`.

    Raises:
        UserError: a period has fewer than two documents to be judged on.
    """
    when_P = times(periods)
    member_PD = np.array([[g == p for g in group_D] for p in periods], float)
    check(periods, group_D)
    nats_PSD, seeds = nats_PSD / math.log(2), nats_PSD.shape[1]
    rng = np.random.default_rng(seed)
    drawn_BD = np.zeros((RESAMPLES, len(group_D)))
    for inside in member_PD.astype(bool):
        n = int(inside.sum())
        drawn_BD[:, inside] = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)

    def losses(nats_PD: Array) -> Array:
        """[training, test]"""
        return np.asarray((nats_PD @ member_PD.T) / (member_PD @ bytes_D))

    mean_PD = nats_PSD.mean(1)
    loss_PP = losses(mean_PD)
    sizes_BP = drawn_BD @ (member_PD * bytes_D).T
    resampled = np.stack([drawn_BD @ (member_PD * row).T / sizes_BP for row in mean_PD], axis=1)
    by_seed_SPP = np.stack([losses(nats_PSD[:, s]) for s in range(seeds)])
    drawn_BS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES) / seeds
    apart_PP = when_P[None] - when_P[:, None]  # test less training

    def slope(mask_PP: Array) -> Difference:
        gap_PP = np.abs(apart_PP) * mask_PP

        def of(loss_XPP: Array) -> Array:
            own = np.diagonal(loss_XPP, axis1=1, axis2=2)[:, None]
            return np.asarray(((loss_XPP - own) * gap_PP).sum((1, 2)) / (gap_PP**2).sum())

        found_B = of(resampled)
        if seeds > 1:
            t, z = (d.ppf((1 + LEVEL) / 2) for d in (stats.t(seeds - 1), stats.norm))
            slope_S = of(by_seed_SPP)
            found_B = found_B + t / z * math.sqrt(seeds / (seeds - 1)) * (drawn_BS @ slope_S - slope_S.mean())
        low, high = np.quantile(found_B, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Difference(float(of(loss_PP[None])[0]), float(low), float(high))

    return Freshness(
        tuple(periods),
        when_P,
        loss_PP,
        slope(np.ones_like(apart_PP)),
        slope((apart_PP < 0).astype(float)),
        slope((apart_PP > 0).astype(float)),
        tuple(int(n) for n in member_PD.sum(1)),
    )
