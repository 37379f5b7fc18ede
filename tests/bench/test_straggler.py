"""Limits of strategies with slow workers: the formulas against a simulation of the book of leases."""

import pytest

from raypt.bench.straggler import Pattern, limit, simulated

pytestmark = pytest.mark.fast

ALWAYS, SOMETIMES = Pattern("always", 0.1, 5.0), Pattern("sometimes", 0.1, 5.0)


@pytest.mark.parametrize("pattern", [ALWAYS, SOMETIMES])
def test_the_formula_of_unbounded_staleness_is_what_a_simulation_has(pattern: Pattern) -> None:
    # 1 % is the spread of 12,000 draws.
    assert simulated(pattern, 3, None, 4000) == pytest.approx(limit(pattern, 3, None), rel=0.01)


def test_three_workers_of_which_one_is_five_times_slower() -> None:
    """6 where all wait for it, 22 where nobody does; a bound only puts the wait off."""
    assert limit(ALWAYS, 3, 0) == pytest.approx(6)
    assert limit(ALWAYS, 3, None) == pytest.approx(22)
    assert simulated(ALWAYS, 3, 3, 4000) == pytest.approx(limit(ALWAYS, 3, 3), rel=0.01)


def test_a_bound_evens_out_workers_that_are_slow_now_and_then() -> None:
    rates = [limit(SOMETIMES, 3, bound) for bound in (0, 1, 3, 10, None)]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(3 / (0.1 + (1 - 0.9**3) * 0.4))
    assert rates[2] > 1.2 * rates[0], "a bound of 3 gains a fifth and more"


def test_synchronous_steps_simulated_by_hand_have_the_formula_s_rate() -> None:
    steps = list(zip(*(SOMETIMES.pauses(worker, 4000) for worker in range(3)), strict=True))
    assert 3 * len(steps) / sum(map(max, steps)) == pytest.approx(limit(SOMETIMES, 3, 0), rel=0.02)


def test_pauses_are_the_same_every_time_and_of_each_worker_its_own() -> None:
    assert SOMETIMES.pauses(1, 50) == SOMETIMES.pauses(1, 50) != SOMETIMES.pauses(2, 50)
    assert SOMETIMES.pauses(1, 50)[:20] == SOMETIMES.pauses(1, 20)
