"""Who trains on which samples, without Ray: leases in the order of the sample clock, and the bound on running ahead.

A lease is a run of samples that one worker makes one update of. Whoever is free takes the next; those of a worker that
is lost come first again, so each sample is trained on once, whoever is slow or dies. The bound is that of stale
synchronous parallel (Ho et al. 2013): worker w may begin its t-th update where every worker's first t - `staleness`
are in the weights.
"""

import heapq
import itertools
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Lease:
    """Consecutive samples."""

    first: int
    """Global index of the first."""
    samples: int
    step: int
    """Of the batch that they are of, from 0."""


@dataclass(frozen=True)
class Grant:
    """A lease in the hands of a worker."""

    number: int
    """Another one each time, for the same lease too."""
    worker: int
    lease: Lease
    lead: int
    """Of how many of its own steps the worker is ahead of what every worker has in the weights: its gradient may lack
    so many steps of others, or of its own."""


class Leases:
    """The book of one start of the workers."""

    def __init__(self, staleness: int | None) -> None:
        """`staleness`: see ParameterServerConfig, but not 0."""
        self.staleness = staleness
        self._free: list[Lease] = []
        self._held: dict[int, Grant] = {}
        self._committed: set[int] = set()
        self._taken: dict[int, int] = {}
        self._done: dict[int, int] = {}
        self._numbers = itertools.count()

    @property
    def outstanding(self) -> int:
        """Leases that are not done: free ones, and those in the hands of workers."""
        return len(self._free) + len(self._held)

    def offer(self, lease: Lease) -> None:
        """Another lease to be taken."""
        heapq.heappush(self._free, lease)

    def join(self, worker: int) -> None:
        """A worker begins, level with the one that is furthest behind: it holds nobody up, and is not ahead."""
        if worker in self._taken:
            raise ValueError(f"worker {worker} is there already")
        self._taken[worker] = self._done[worker] = min(self._done.values(), default=0)

    def leave(self, worker: int) -> list[Grant]:
        """A worker is lost. What it held is free again, and returned, but for what is committed."""
        self._taken.pop(worker, None)
        self._done.pop(worker, None)
        lost = [g for g in self._held.values() if g.worker == worker and g.number not in self._committed]
        for grant in lost:
            del self._held[grant.number]
            self.offer(grant.lease)
        return lost

    def lead(self, worker: int) -> int:
        """Of a gradient that the worker would begin now; see `Grant`."""
        return self._taken[worker] - min(self._done.values())

    def take(self, worker: int) -> Grant | None:
        """The next lease; None where there is none, or where the worker is too far ahead."""
        if not self._free or (self.staleness is not None and self.lead(worker) > self.staleness):
            return None
        grant = Grant(next(self._numbers), worker, heapq.heappop(self._free), self.lead(worker))
        self._held[grant.number] = grant
        self._taken[worker] += 1
        return grant

    def commit(self, grant: Grant) -> None:
        """The gradient is where it can no longer be lost: the lease goes to nobody else."""
        assert grant.number in self._held, grant
        self._committed.add(grant.number)

    def finish(self, grant: Grant) -> None:
        """The update is made on all servers, or left out for good."""
        del self._held[grant.number]
        self._committed.discard(grant.number)
        if grant.worker in self._done:  # else it has left meanwhile
            self._done[grant.worker] += 1

    def level(self) -> None:
        """Nothing is outstanding, so all weights are in, and whoever was ahead is so no longer."""
        assert not self.outstanding
        self._taken = dict.fromkeys(self._taken, 0)
        self._done = dict.fromkeys(self._done, 0)
