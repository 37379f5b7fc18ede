"""How often the intervals hold the truth: `python -m tests.run.study.laws.coverage [--draws 200] [--law LAW]`.

Losses are drawn from a known law with log-normal noise and fitted as `raypt study fit` does; a 95 % interval should
hold the truth in 95 of 100 draws. 200 draws take about ten minutes on two cores; the tests make fewer.
"""

import argparse
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from raypt.run.study.laws import chinchilla, mixture, repetition
from raypt.run.study.laws.fitting import Named, fit_law
from raypt.run.study.laws.robust import Array, Columns, Law, fit, fit_together

ASKED = (0.90, 0.98)
"""Share of 200 draws whose interval holds the truth."""


@dataclass(frozen=True)
class Truth:
    """A law, its parameters, and the runs that one could afford."""

    law: Law
    theta: Array
    x: Columns
    noise: float
    """Standard deviation of the log loss: between seeds it is .002 to .01 (Besiroglu et al. 2024 find .005)."""
    named: Named
    shown: tuple[str, ...]
    """Quantities whose intervals are counted."""
    starts: Callable[[Columns, Array], list[Array]]

    def covered(self, seed: int, resamples: int) -> dict[str, bool]:
        """Whether the interval of each quantity holds its true value in one draw."""
        rng = np.random.default_rng([seed, 17])
        loss = np.exp(self.law.log_loss(self.theta[None], self.x)[0][0] + self.noise * rng.standard_normal(self.runs))
        options = {"delta": mixture.MIXING_DELTA, "minimise": fit_together} if is_mixture(self) else {"minimise": fit}
        fitted = fit_law(self.law, self.starts(self.x, loss), self.x, loss, resamples=resamples, seed=seed, **options)
        true, found = self.named(self.theta[None]), fitted.estimates(self.named)
        return {name: found[name].low <= float(true[name][0]) <= found[name].high for name in self.shown}

    @property
    def runs(self) -> int:
        return len(next(iter(self.x.values())))


def is_mixture(truth: Truth) -> bool:
    return isinstance(truth.law, mixture.MixingLaw)


def grid(*axes: Array) -> list[Array]:
    return [a.ravel() for a in np.meshgrid(*axes, indexing="ij")]


def chinchilla_truth() -> Truth:
    """Besiroglu's values; 8 sizes x 8 numbers of tokens."""
    n, d = grid(np.geomspace(5e7, 1e10, 8), np.geomspace(1e9, 3e11, 8))
    theta = np.array([np.log(482.01), np.log(2085.43), np.log(1.8172), 0.3478, 0.3658])
    shown = ("E", "A", "B", "alpha", "beta", "a", "G")
    return Truth(chinchilla.Chinchilla(), theta, {"N": n, "D": d}, 0.005, chinchilla.named, shown, chinchilla.starts)


def repetition_truth() -> Truth:
    """The authors' values; 4 sizes x 4 amounts of text x 1 to 64 epochs."""
    n, u, epochs = grid(np.geomspace(1e8, 8e9, 4), np.geomspace(4e8, 3e10, 4), 2.0 ** np.arange(7))
    x = {"N": n, "U": u, "D": u * epochs}
    shown = ("E", "A", "B", "alpha", "R_D*", "R_N*")
    law = repetition.Repetition()
    return Truth(law, repetition.PUBLISHED, x, 0.005, repetition.named, shown, repetition.starts)


def mixture_truth() -> Truth:
    """Five sources, 80 mixtures drawn as RegMix draws them."""
    rng = np.random.default_rng(5)
    sources = ("web", "code", "books", "wiki", "forum")
    r_RS = mixture.shares(rng.standard_gamma(rng.uniform(0.1, 5, (80, 1)) * np.full(5, 0.2)) + 1e-3)
    law = mixture.MixingLaw(sources)
    theta = np.array([np.log(2.5), 0.2, 0.9, -0.3, -1.2, 0.5])
    shown = ("c", "k", *(f"t_{s}" for s in sources))
    return Truth(law, theta, mixture.columns(sources, r_RS), 0.01, law.named, shown, law.starts)


TRUTHS: dict[str, Callable[[], Truth]] = {
    "chinchilla": chinchilla_truth,
    "repetition": repetition_truth,
    "mixture": mixture_truth,
}


def _one(law: str, seed: int, resamples: int) -> dict[str, bool]:
    return TRUTHS[law]().covered(seed, resamples)


def coverage(law: str, draws: int, resamples: int, workers: int = 1, first: int = 0) -> dict[str, float]:
    """Share of draws whose interval holds the truth, by quantity; `first`: the seed of the first."""
    arguments = [law] * draws, list(range(first, first + draws)), [resamples] * draws
    if workers == 1:
        held = list(map(_one, *arguments))
    else:
        with ProcessPoolExecutor(workers) as pool:
            held = list(pool.map(_one, *arguments))
    return {name: float(np.mean([h[name] for h in held])) for name in held[0]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="seed of the first draw: other draws")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--law", choices=TRUTHS, action="append")
    arguments = parser.parse_args()
    fine = True
    for law in arguments.law or TRUTHS:
        for name, share in coverage(
            law, arguments.draws, arguments.resamples, arguments.workers, arguments.first
        ).items():
            inside = ASKED[0] <= share <= ASKED[1]
            fine &= inside
            print(
                f"{law:12} {name:10} {share:6.1%} of {arguments.draws}{'' if inside else '  OUTSIDE 90-98 %'}",
                flush=True,
            )
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
