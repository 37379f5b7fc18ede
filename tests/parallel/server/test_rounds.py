"""A round's sum has one order, whatever order the gradients come in."""

import itertools

import pytest
import torch

from raypt.parallel.server.rounds import Rounds


def test_the_sum_is_the_same_to_the_bit_in_every_order_of_arrival() -> None:
    gradients = [torch.randn(1000, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    sums = []
    for order in itertools.permutations(range(4)):
        rounds = Rounds(4, 1000)
        for i, worker in enumerate(order):
            assert not rounds.complete
            rounds.add(worker, 0, gradients[worker])
            assert rounds.complete == (i == 3)
        sums.append(rounds.sum.clone())
    assert all(torch.equal(s, sums[0]) for s in sums)


def test_a_gradient_of_another_round_or_a_second_one_is_refused() -> None:
    rounds = Rounds(3, 4)
    rounds.add(0, 0, torch.ones(4))
    rounds.add(2, 0, torch.ones(4))
    for worker, number in ((0, 0), (2, 0), (1, 1), (3, 0)):
        with pytest.raises(ValueError, match=f"worker {worker} for round {number}"):
            rounds.add(worker, number, torch.ones(4))


def test_what_came_for_a_round_is_not_in_the_next() -> None:
    rounds = Rounds(2, 4)
    rounds.add(1, 0, torch.full((4,), 7.0))
    rounds.next()
    rounds.add(0, 1, torch.ones(4))
    rounds.add(1, 1, torch.ones(4))
    assert torch.equal(rounds.sum, torch.full((4,), 2.0))
