"""Workers that are slow, always or now and then, and how many gradients a second each strategy can have of them.

Pure. A gradient takes what its worker's pattern says, and nothing else takes any time: what is left of it in a
measurement is what computing, messages and updates cost.
"""

import heapq
import math
from dataclasses import dataclass

import numpy as np

from raypt.parallel.server.leases import Grant, Lease, Leases


@dataclass(frozen=True)
class Pattern:
    """How long each gradient of each worker takes."""

    kind: str
    """always: the first worker is slow; sometimes: each gradient of each worker is slow with `chance`; none: nobody."""
    pause_s: float
    slow: float
    """Times as long."""
    chance: float = 0.1

    def pauses(self, worker: int, count: int) -> list[float]:
        """Seconds of the first gradients of a worker; the same every time."""
        if self.kind == "always":
            slow = np.full(count, worker == 0)
        elif self.kind == "sometimes":
            slow = np.random.default_rng([16, worker]).random(count) < self.chance
        else:
            slow = np.zeros(count, bool)
        return [self.pause_s * (self.slow if is_slow else 1.0) for is_slow in slow]


def limit(pattern: Pattern, workers: int, staleness: int | None, seconds: float = math.inf) -> float:
    """Gradients a second of workers of that pattern that wait for nothing but each other: staleness 0 = each step for
    the slowest, None = never. Exact for those; for a bound in between, of the book of leases itself over 4,000 steps.
    `seconds` that a measurement takes: within them a bound lets workers run ahead of one that is always slow, once.
    """
    assert pattern.pause_s > 0, "without pauses there is no limit"
    p, slow = pattern.pause_s, pattern.pause_s * pattern.slow
    if pattern.kind == "none":
        return workers / p
    if pattern.kind == "always":
        if staleness is None:
            return (workers - 1) / p + 1 / slow
        return workers / slow + (workers - 1) * staleness / seconds  # a bound only puts the wait off
    if staleness is None:
        return workers / (p + pattern.chance * (slow - p))
    if staleness == 0:
        some = 1 - (1 - pattern.chance) ** workers
        return workers / (p + some * (slow - p))
    return simulated(pattern, workers, staleness, 4000)


def simulated(pattern: Pattern, workers: int, staleness: int | None, steps: int) -> float:
    """Gradients a second over so many steps, of an update that is made the moment its gradient is there."""
    book, count = Leases(staleness), steps * workers
    pauses = [pattern.pauses(worker, count) for worker in range(workers)]
    for i in range(count):
        book.offer(Lease(i, 1, i // workers))
    made, idle, now = [0] * workers, list(range(workers)), 0.0
    under_way: list[tuple[float, int, Grant]] = []
    for worker in range(workers):
        book.join(worker)
    while book.outstanding:
        for worker in list(idle):
            if (grant := book.take(worker)) is not None:
                idle.remove(worker)
                heapq.heappush(under_way, (now + pauses[worker][made[worker]], grant.number, grant))
                made[worker] += 1
        now, _, grant = heapq.heappop(under_way)
        book.finish(grant)
        idle.append(grant.worker)
    return count / now
