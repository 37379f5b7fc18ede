"""The outer step against torch's SGD, and which fragment is exchanged when."""

import pytest
import torch

from raypt.parallel.local_sgd.outer import Outer, due


@pytest.mark.parametrize(("lr", "momentum"), [(1.0, 0.0), (0.7, 0.9)])
def test_the_outer_step_is_torchs_nesterov_step_over_the_differences(lr: float, momentum: float) -> None:
    torch.manual_seed(0)
    start = torch.randn(100)
    outer = Outer(100, lr=lr, momentum=momentum)
    outer.weights = start.clone()
    theirs = torch.nn.Parameter(start.clone())
    sgd = torch.optim.SGD([theirs], lr=lr, momentum=momentum, nesterov=momentum > 0)
    for _ in range(5):
        difference = torch.randn(100)
        theirs.grad = difference.clone()
        sgd.step()
        parts = [outer.step(at, difference[at].clone()) for at in (slice(0, 40), slice(40, 100))]
        torch.testing.assert_close(torch.cat(parts), theirs.detach())


def test_plain_averaging_moves_the_weights_to_their_mean() -> None:
    outer = Outer(3, lr=1.0, momentum=0.0)
    outer.weights = torch.tensor([1.0, 2.0, 3.0])
    workers = torch.tensor([[0.0, 2.0, 5.0], [4.0, 1.0, 3.0]])
    torch.testing.assert_close(outer.step(slice(0, 3), outer.weights - workers.mean(0)), workers.mean(0))


@pytest.mark.parametrize(("every", "fragments"), [(1, 1), (50, 1), (50, 5), (7, 3), (4, 4)])
def test_each_fragment_is_exchanged_once_in_every_so_many_steps(every: int, fragments: int) -> None:
    for first in range(1, 3 * every):
        seen = [f for step in range(first, first + every) for f in due(step, every, fragments)]
        assert sorted(seen) == list(range(fragments))
    assert all(len(due(step, every, fragments)) <= 1 for step in range(1, 3 * every))
