"""Laws on data of known parameters: what a fit returns, its gradients, its intervals, the worth of repeats."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from raypt.run.study.laws import chinchilla, isoflop, mixture, repetition
from raypt.run.study.laws.boosting import boost
from raypt.run.study.laws.bootstrap import interval, resample_weights, tail
from raypt.run.study.laws.fitting import fit_law
from raypt.run.study.laws.robust import Law, fit, objective, refit
from tests.run.study.laws.coverage import TRUTHS, Truth, coverage


@pytest.mark.parametrize("make", TRUTHS.values(), ids=TRUTHS)
def test_losses_without_noise_give_the_law_that_made_them(make: Callable[[], Truth]) -> None:
    truth = make()
    loss = np.exp(truth.law.log_loss(truth.theta[None], truth.x)[0][0])
    fitted = fit_law(truth.law, truth.starts(truth.x, loss), truth.x, loss, resamples=2, delta=0.02)
    true, found = truth.named(truth.theta[None]), truth.named(fitted.theta[None])
    for name in truth.shown:
        assert found[name][0] == pytest.approx(true[name][0], rel=2e-3), name  # L-BFGS ends within 1e-4 of a minimum


@pytest.mark.parametrize("make", TRUTHS.values(), ids=TRUTHS)
def test_gradients_are_those_of_finite_differences(make: Callable[[], Truth]) -> None:
    truth = make()
    rng = np.random.default_rng(0)
    for _ in range(5):
        theta = truth.theta + 0.1 * rng.standard_normal(len(truth.theta))
        _, exact = truth.law.log_loss(theta[None], truth.x)
        for i in range(len(theta)):
            step = np.zeros_like(theta)
            step[i] = 1e-6
            high, low = (truth.law.log_loss((theta + s)[None], truth.x)[0][0] for s in (step, -step))
            # A central difference of step 1e-6 is good to 1e-9 or so; second derivatives are up to 100 here.
            np.testing.assert_allclose(exact[0, :, i], (high - low) / 2e-6, atol=2e-6)


# Of 20 draws a sound interval holds the truth in fewer than 15 with probability 3e-5. 200 draws, and both bounds:
# python -m tests.run.study.laws.coverage.
@pytest.mark.parametrize("law", TRUTHS)
def test_intervals_hold_the_truth(law: str) -> None:
    for name, share in coverage(law, draws=20, resamples=100).items():
        assert share >= 15 / 20, (name, share)


def test_intervals_are_no_wider_than_the_scatter_of_the_fits() -> None:
    truth = TRUTHS["chinchilla"]()
    alphas, widths = [], []
    for seed in range(20):
        noise = truth.noise * np.random.default_rng(seed).standard_normal(truth.runs)
        loss = np.exp(truth.law.log_loss(truth.theta[None], truth.x)[0][0] + noise)
        fitted = fit_law(truth.law, truth.starts(truth.x, loss), truth.x, loss, resamples=100)
        alpha = fitted.estimates(truth.named)["alpha"]
        alphas.append(alpha.value)
        widths.append(alpha.high - alpha.low)
    # 3.92 deviations if all is normal; the deviation of 20 fits is known to 16 %, so 1.5 times is 3 of its deviations.
    assert np.mean(widths) < 1.5 * 3.92 * np.std(alphas)


def test_a_refit_of_all_runs_once_is_the_fit() -> None:
    truth = TRUTHS["chinchilla"]()
    noise = 0.01 * np.random.default_rng(0).standard_normal(truth.runs)
    log_loss = truth.law.log_loss(truth.theta[None], truth.x)[0][0] + noise
    minimum = fit(truth.law, truth.starts(truth.x, np.exp(log_loss)), truth.x, log_loss)
    again = refit(truth.law, truth.theta, truth.x, log_loss, np.ones((1, truth.runs)))[0]
    height, _ = objective(truth.law, again, truth.x, log_loss)
    assert height == pytest.approx(minimum.objective, rel=1e-5)
    np.testing.assert_allclose(again, minimum.theta, atol=0.05)  # the valley is flat in log A and log B


def test_an_outlier_moves_a_fit_less_than_least_squares() -> None:
    truth = TRUTHS["chinchilla"]()
    loss = np.exp(truth.law.log_loss(truth.theta[None], truth.x)[0][0])
    loss[10] *= 1.5
    starts = truth.starts(truth.x, loss)

    def off(delta: float) -> float:
        fitted = fit_law(truth.law, starts, truth.x, loss, resamples=0, delta=delta)
        return abs(float(truth.named(fitted.theta[None])["E"][0]) - 1.8172)

    assert off(1e-3) < 0.1 * off(10.0)


def test_the_optimum_is_the_lowest_loss_along_its_budget() -> None:
    theta = np.array([[np.log(482.01), np.log(2085.43), np.log(1.8172), 0.3478, 0.3658]])
    size, tokens, loss = (float(v[0]) for v in chinchilla.optimum(theta, 5.76e23))
    assert 6 * size * tokens == pytest.approx(5.76e23)
    law: Law = chinchilla.Chinchilla()
    n = np.geomspace(size / 2, size * 2, 401)
    along = np.exp(law.log_loss(theta, {"N": n, "D": 5.76e23 / 6 / n})[0][0])
    assert along.argmin() == 200
    assert along.min() == pytest.approx(loss)


def isoflop_runs(slope: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    c, offset = (a.ravel() for a in np.meshgrid(np.geomspace(1e18, 1e21, 6), np.linspace(-1.5, 1.5, 9), indexing="ij"))
    n = np.exp(offset + slope * np.log(c) - 2)
    return n, c / 6 / n, c, np.exp(0.05 * offset**2 - 0.05 * np.log(c) + 4)


@pytest.mark.parametrize("slope", [0.35, 0.5, 0.7])
def test_parabolas_find_the_exponent_of_the_best_size(slope: float) -> None:
    found = isoflop.isoflop(*isoflop_runs(slope), resamples=50)
    assert found.slope == pytest.approx(slope, abs=1e-9)
    assert len(found.best) == 6


def test_a_budget_whose_lowest_loss_is_at_the_edge_has_no_best_size() -> None:
    n, d, c, loss = isoflop_runs(0.5)
    kept = (c < c.max() * 0.9) | (n < np.median(n[c == c.max()]))
    found = isoflop.isoflop(n[kept], d[kept], c[kept], loss[kept], resamples=50)
    assert [why for _, why in found.left_out] == ["the lowest loss is at the edge of the sizes"]
    assert len(found.best) == 5


def test_the_envelope_of_loss_curves_finds_the_exponent() -> None:
    theta = np.array([np.log(482.01), np.log(2085.43), np.log(1.8172), 0.3478, 0.3658])
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(1e8, 1e11, 25), np.geomspace(1e8, 1e13, 120), indexing="ij"))
    loss = np.exp(chinchilla.Chinchilla().log_loss(theta[None], {"N": n, "D": d})[0][0])
    found = isoflop.envelope(n, d, 6 * n * d, loss, resamples=50)
    # Middles of stretches on a grid of 200 budgets: each is off by half a step of either grid at most.
    assert found.slope == pytest.approx(float(chinchilla.named(theta[None])["a"][0]), abs=0.02)


def test_the_kth_epoch_is_worth_less_than_the_one_before() -> None:
    worth = [float(repetition.worth_of_epoch(np.array([15.4]), k)[0]) for k in range(1, 41)]
    assert worth[0] == 1
    assert all(later < earlier for earlier, later in itertools.pairwise(worth))
    # "counts 4 epochs as 3.73 unique, 16 as 10.6": Muennighoff et al. 2023
    for epochs, counted in ((4, 3.73), (16, 10.6), (44, 15.5)):
        effective = float(repetition.effective_epochs(np.exp(repetition.PUBLISHED[5:]), epochs)[0])
        assert effective == pytest.approx(counted, rel=5e-3)
        assert sum(worth[:epochs]) == pytest.approx(effective, rel=5e-3) or epochs > len(worth)


def test_without_repetition_the_law_is_that_of_chinchilla() -> None:
    x = {"N": np.array([1e7, 1e8]), "D": np.array([1e10, 1e11]), "U": np.array([1e10, 2e11])}
    with_it, _ = repetition.Repetition().log_loss(repetition.PUBLISHED[None], x)
    log_a, log_b, log_e, alpha = repetition.PUBLISHED[:4]
    without, _ = chinchilla.Chinchilla().log_loss(np.array([[log_a, log_b, log_e, alpha, alpha]]), x)
    np.testing.assert_allclose(with_it, without, rtol=1e-12)


def test_a_run_that_had_more_and_lost_more_is_over_fitted() -> None:
    x = {
        "N": np.array([1e8, 1e8, 1e9]),
        "D": np.array([1e9, 1e10, 1e10]),
        "U": np.array([1e9, 1e9, 1e9]),
    }
    assert repetition.over_fitted(x, np.array([3.0, 2.9, 3.5])).tolist() == [False, False, True]


def test_trees_fit_a_step_exactly_and_say_nothing_of_a_constant() -> None:
    x = np.random.default_rng(0).random((200, 3))
    step = np.where(x[:, 1] > 0.5, 2.0, -1.0)
    np.testing.assert_allclose(boost(x, step).predict(x), step, atol=1e-6)
    assert np.ptp(boost(x, np.full(200, 4.0)).predict(x)) == 0


def test_the_best_mixture_holds_the_source_that_lowers_the_loss() -> None:
    truth = TRUTHS["mixture"]()
    assert isinstance(truth.law, mixture.MixingLaw)
    r_RS = np.stack([truth.x[f"r_{s}"] for s in truth.law.sources], -1)
    loss = np.exp(truth.law.log_loss(truth.theta[None], truth.x)[0][0])
    fitted = mixture.fit_mixture(truth.law.sources, r_RS, loss, resamples=50)
    assert fitted.best == "exponential"
    best = mixture.best_mixture(fitted, np.full(5, 0.2))
    assert truth.law.sources[int(best.weights.argmax())] == "wiki"  # the least t
    assert best.low > 0


@pytest.mark.parametrize("smooth", [False, True])
def test_resamples_weigh_as_much_as_the_runs_and_groups_as_one(smooth: bool) -> None:
    np.testing.assert_allclose(resample_weights(12, 50, 0, smooth=smooth).sum(1), 12)
    groups = np.repeat(np.arange(4), 3).astype(float)
    grouped = resample_weights(12, 400, 0, groups, smooth=smooth)
    assert (grouped.reshape(400, 4, 3) == grouped.reshape(400, 4, 3)[:, :, :1]).all()
    np.testing.assert_allclose(grouped.sum(1), 12)
    # Of four weights that sum to 4: (4 - 1) / (4 + 1) if they are exponential, 1 - 1/4 if they are counts. 1,600 of
    # them are known to 5 %.
    assert np.var(grouped[:, ::3]) == pytest.approx(0.6 if smooth else 0.75, rel=0.2)


def test_the_interval_of_few_runs_is_wider_and_counts_infinities() -> None:
    assert tail(0.95, 10, 5) < tail(0.95, 1000, 5) < 0.026
    values = np.concatenate([np.arange(1000.0), np.full(100, np.inf)])
    low, high = interval(values, 1000, 5)
    assert low < 50
    assert high == np.inf
