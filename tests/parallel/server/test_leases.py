"""The book of leases: each sample once, in order, and nobody further ahead than the bound."""

import random

import pytest

from raypt.parallel.server.leases import Grant, Lease, Leases

pytestmark = pytest.mark.fast

WORKERS, SAMPLES = 4, 8


def book(staleness: int | None, leases: int = 400) -> Leases:
    out = Leases(staleness)
    for worker in range(WORKERS):
        out.join(worker)
    for i in range(leases):
        out.offer(Lease(i * SAMPLES, SAMPLES, i // WORKERS))
    return out


@pytest.mark.parametrize("staleness", [1, 3, None])
@pytest.mark.parametrize("seed", range(5))
def test_every_sample_is_done_once_whoever_dies_and_nobody_is_further_ahead_than_the_bound(
    staleness: int | None, seed: int
) -> None:
    """Workers of random speed; what each does, and its death, comes at random."""
    chance, leases = random.Random(seed), book(staleness)
    speeds = [chance.uniform(0.05, 1) for _ in range(WORKERS)]
    computing: dict[int, Grant] = {}
    pushed: list[Grant] = []
    done: list[int] = []
    leads: list[int] = []
    while leases.outstanding:
        worker = chance.randrange(WORKERS)
        if chance.random() < 0.01:
            computing.pop(worker, None)
            back = {grant.number for grant in leases.leave(worker)}
            pushed = [grant for grant in pushed if grant.number not in back]
            leases.join(worker)
        elif worker not in computing:
            if (grant := leases.take(worker)) is not None:
                computing[worker] = grant
                leads.append(grant.lead)
        elif chance.random() < speeds[worker]:
            grant = computing.pop(worker)
            pushed.append(grant)
            if chance.random() < 0.5:
                leases.commit(grant)
        if pushed and chance.random() < 0.3:
            grant = pushed.pop(0)
            leases.commit(grant)
            leases.finish(grant)
            done.append(grant.lease.first)
    assert sorted(done) == [i * SAMPLES for i in range(400)]
    assert max(leads) == staleness if staleness is not None else max(leads) > 3


def test_samples_are_given_out_in_their_order_and_those_of_a_lost_worker_first() -> None:
    leases = book(None, 6)
    first, second = leases.take(0), leases.take(1)
    assert first is not None and second is not None
    assert (first.lease.first, second.lease.first) == (0, SAMPLES)
    assert leases.leave(0) == [first]
    again = leases.take(2)
    assert again is not None
    assert again.lease == first.lease and again.number != first.number


def test_what_is_committed_goes_to_nobody_else() -> None:
    leases = book(None, 1)
    grant = leases.take(0)
    assert grant is not None
    leases.commit(grant)
    assert leases.leave(0) == []
    assert leases.take(1) is None
    leases.finish(grant)
    assert not leases.outstanding


def test_a_worker_waits_for_the_slowest_and_no_longer_when_that_one_is_lost() -> None:
    leases = book(1)
    assert leases.take(3) is not None  # the slow one
    for _ in range(2):
        for worker in range(3):
            grant = leases.take(worker)
            assert grant is not None
            leases.commit(grant)
            leases.finish(grant)
    assert [leases.take(worker) for worker in range(3)] == [None] * 3
    leases.leave(3)
    assert leases.take(0) is not None


def test_a_new_worker_neither_waits_nor_holds_others_up() -> None:
    leases = book(1)
    for _ in range(5):
        for worker in range(WORKERS):
            grant = leases.take(worker)
            assert grant is not None
            leases.finish(grant)
    leases.leave(0)
    leases.join(0)
    assert leases.lead(0) == leases.lead(1) == 0
