"""The outer step, without communication: from where the workers stand on average to where they begin again."""

import torch
from torch import Tensor


class Outer:
    """Nesterov's momentum over the differences that the workers bring. At rate 1 and momentum 0 it is their mean."""

    def __init__(self, numel: int, *, lr: float, momentum: float) -> None:
        self.lr, self.momentum = lr, momentum
        self.weights = torch.empty(numel)
        """Where all workers began last."""
        self.velocity = torch.zeros(numel)

    @torch.no_grad()
    def step(self, at: slice, mean_difference: Tensor) -> Tensor:
        """Move the elements `at` by the mean over the workers of (where they began - where they are), which is changed;
        returns where they begin again.
        """
        velocity = self.velocity[at].mul_(self.momentum).add_(mean_difference)
        return self.weights[at].sub_(mean_difference.add_(velocity, alpha=self.momentum), alpha=self.lr)


def due(step: int, every: int, fragments: int) -> list[int]:
    """The fragments that are exchanged after so many inner steps: each once in `every`, evenly apart."""
    return [f for f in range(fragments) if step % every == every * (f + 1) // fragments % every]
