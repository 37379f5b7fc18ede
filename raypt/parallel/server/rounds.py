"""The synchronous server's bookkeeping: a round is complete when every worker has brought its gradient."""

import torch
from torch import Tensor


class Rounds:
    """Adds up the gradients of one round in the order of the workers, whatever order they come in: the same bits every
    time. What comes before its turn is kept until then.
    """

    def __init__(self, workers: int, numel: int) -> None:
        self.workers = workers
        self.number = 0
        """Of the round under way, from 0."""
        self._sum = torch.empty(numel)
        self._early: dict[int, Tensor] = {}
        self._added = 0

    @property
    def complete(self) -> bool:
        return self._added == self.workers

    @property
    def sum(self) -> Tensor:
        """Of all workers' gradients; only of a complete round."""
        assert self.complete
        return self._sum

    def add(self, worker: int, number: int, gradient: Tensor) -> None:
        """A worker's gradient for round `number`. Raises ValueError for another round, or a second one of a worker."""
        if number != self.number or worker in self._early or worker < self._added or worker >= self.workers:
            raise ValueError(f"a gradient of worker {worker} for round {number}, in round {self.number}")
        self._early[worker] = gradient
        while (here := self._early.pop(self._added, None)) is not None:
            if self._added == 0:
                self._sum.copy_(here)
            else:
                self._sum.add_(here)
            self._added += 1

    def next(self) -> None:
        """Begin the next round. What has come for this one is forgotten."""
        self.number += 1
        self._early.clear()
        self._added = 0
