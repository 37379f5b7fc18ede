"""A worker of asynchronous servers: an actor that computes the gradient of one lease at a time."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
import torch
from ray.exceptions import RayActorError

from raypt.parallel.flat.replica import Replica
from raypt.parallel.server.actor import NAMESPACE
from raypt.parallel.server.cluster import ServerLost
from raypt.parallel.server.rows import Rows, received
from raypt.parallel.server.travel import packed, unpacked
from raypt.parallel.zero.update import square_sum

Fetched = list[tuple[int, Any]]
"""Version and weights of each slice."""
MakeReplica = Callable[[int], Replica]
"""Of a worker's number."""


@dataclass(frozen=True)
class Computed:
    """What came of a lease."""

    samples: npt.NDArray[np.int64]
    """Global indices of those that the gradient is of."""
    loss_sum: float
    z_sum: float
    tokens: int
    norm: float | None
    """Of the whole gradient, of the mean loss of a token; None where it is not finite: nothing has been pushed then."""
    version: int
    """Of the weights; the oldest, where the servers were at different ones."""
    seconds: dict[str, float]
    """Of its parts, as in `Timing`."""
    sent_bytes: int = 0
    pushed: list[Any] = field(default_factory=list)
    """References that are there once the servers have their part of the gradient."""


class GradientWorker:
    """Holds the weights that it computes with and one gradient, nothing else."""

    def __init__(
        self, number: int, replica: MakeReplica, servers: Sequence[str], travel: torch.dtype, threads: int
    ) -> None:
        """`servers`: their names; `travel`: type in which gradients travel."""
        torch.set_num_threads(threads)
        self.replica, self._travel = replica(number), travel
        self.servers: list[Any] = [ray.get_actor(name, NAMESPACE) for name in servers]
        self.slices = self.replica.flat.cut(len(servers))
        self._threads = ThreadPoolExecutor(1)
        self._fetched: Future[Fetched] | None = None

    def ready(self) -> None:
        """Returns when the worker is there."""

    def compute(self, grant: int, rows: Sequence[Rows], *, use_fetched: bool = False, fetch: bool = False) -> Computed:
        """The gradient of the samples, pushed to the servers: under the newest weights, or, with `use_fetched`, those
        that an earlier call has fetched. `fetch`: those for a later one, while this one computes.

        Raises:
            ServerLost: one of them is gone.
        """
        timing, micro_batches = self.replica.begin(), list(map(received, rows))
        with self.replica.timed("communication"):
            fetched = self._fetched.result() if use_fetched and self._fetched is not None else self._fetch()
            version = self._take(fetched)
            self._fetched = self._threads.submit(self._fetch) if fetch else None
        tokens = sum(m.tokens for m in micro_batches)
        loss_sum, z_sum = self.replica.passes(micro_batches, tokens).tolist()
        started = time.perf_counter()
        norm = math.sqrt(square_sum([self.replica.gradient]))
        timing.step += time.perf_counter() - started
        samples = np.concatenate([m.sample_index_B for m in micro_batches])
        finite = math.isfinite(norm) and math.isfinite(loss_sum)
        pushed, sent = self._push(grant) if finite else ([], 0)
        seconds = {part: getattr(timing, part) for part in ("forward", "backward", "step", "communication")}
        return Computed(
            samples, loss_sum, z_sum, tokens, norm if finite else None, version, seconds, sent_bytes=sent, pushed=pushed
        )

    def evaluate(self, rows: Sequence[Rows]) -> list[float]:
        """See TrainEngine, under the newest weights."""
        self._take(self._fetch())
        return self.replica.evaluate(list(map(received, rows)))

    def _fetch(self) -> Fetched:
        try:
            pulled: Fetched = ray.get([actor.pull.remote() for actor in self.servers])
            arrays = ray.get([reference for _, (reference,) in pulled])
        except RayActorError as e:
            raise ServerLost(f"a parameter server is gone, asked for weights: {e}") from None
        return [(version, array) for (version, _), array in zip(pulled, arrays, strict=True)]

    def _take(self, fetched: Fetched) -> int:
        """Compute with these; the oldest version among them."""
        for cut, (_, array) in zip(self.slices, fetched, strict=True):
            cut.of(self.replica.weights).copy_(unpacked(array))
        return min(version for version, _ in fetched)

    def _push(self, grant: int) -> tuple[list[Any], int]:
        started = time.perf_counter()
        cuts = [packed(cut.of(self.replica.gradient), self._travel) for cut in self.slices]
        pushed = [actor.push.remote(grant, cut) for actor, cut in zip(self.servers, cuts, strict=True)]
        self.replica.timing.communication += time.perf_counter() - started
        return pushed, sum(cut.nbytes for cut in cuts)
