"""The workers of asynchronous servers as their leader sees them: started, given work, missed, and replaced."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import ray
import torch
from ray.exceptions import RayActorError, RayError, RayTaskError

from raypt.model.batch import MicroBatch
from raypt.parallel.server.cluster import ServerLost
from raypt.parallel.server.gradient_worker import Computed, GradientWorker, MakeReplica
from raypt.parallel.server.rows import sent

log = logging.getLogger("raypt")

LOOK_S = 5.0
"""Seconds between looks at who has been silent for too long."""


class WorkersLost(RuntimeError):
    """One worker after the other dies, or none answers: the run starts again, from the last checkpoint."""


@dataclass(frozen=True)
class CrewPlan:
    """How many workers, and what each has."""

    workers: int
    cpus: float
    """That each reserves."""
    threads: int
    """Of its matrix products."""
    max_failures: int
    """Deaths of one worker in a row, without an update of its own in between, before the run starts again."""


What = Literal["up", "there", "computed", "pushed", "applied"]


@dataclass(frozen=True)
class Answered:
    """Something has come: a worker is `up`, still `there` or `lost`, has `computed`; a server has what was `pushed`, or
    `applied` it.
    """

    what: What | Literal["lost"]
    worker: int = -1
    number: int = -1
    """Of the grant."""
    value: Any = None


@dataclass
class _Worker:
    actor: Any
    up: bool = False
    busy: bool = False
    failures: int = 0
    """In a row."""


@dataclass(frozen=True)
class _Awaited:
    what: What
    worker: int
    number: int
    since: float = field(default_factory=time.monotonic)


class Crew:
    """Actors that end with this process. A dead one is replaced at once; it works again when its process is there."""

    def __init__(
        self, plan: CrewPlan, replica: MakeReplica, servers: Sequence[str], travel: torch.dtype, *, timeout_s: float
    ) -> None:
        self.plan, self.timeout_s = plan, timeout_s
        self._arguments = {"replica": replica, "servers": list(servers), "travel": travel, "threads": plan.threads}
        self._awaited: dict[Any, _Awaited] = {}
        self._workers: list[_Worker] = []
        for number in range(plan.workers):
            self._workers.append(_Worker(None))
            self._start(number)

    def _start(self, number: int) -> None:
        worker = self._workers[number]
        worker.actor = (
            ray.remote(GradientWorker).options(num_cpus=self.plan.cpus).remote(number=number, **self._arguments)
        )
        worker.up = worker.busy = False
        self._awaited[worker.actor.ready.remote()] = _Awaited("up", number, -1)

    @property
    def idle(self) -> list[int]:
        """Workers that wait for work."""
        return [i for i, w in enumerate(self._workers) if w.up and not w.busy]

    def compute(self, worker: int, grant: int, micro_batches: Sequence[MicroBatch], **options: bool) -> None:
        """Give an idle worker a lease; `options` of `GradientWorker.compute`."""
        self._workers[worker].busy = True
        reference = self._workers[worker].actor.compute.remote(grant, list(map(sent, micro_batches)), **options)
        self._awaited[reference] = _Awaited("computed", worker, grant)

    def watch(self, what: What, number: int, references: Sequence[Any]) -> None:
        """Answer each of the references of a grant, too."""
        self._awaited |= {reference: _Awaited(what, -1, number) for reference in references}

    def forget(self, number: int) -> None:
        """No more answers about a grant."""
        self._awaited = {r: a for r, a in self._awaited.items() if a.number != number}

    def check(self, worker: int) -> None:
        """Find out whether a worker is still there."""
        self._awaited[self._workers[worker].actor.ready.remote()] = _Awaited("there", worker, -1)

    def praise(self, worker: int) -> None:
        """An update of this worker has been made: it is no worker that only dies."""
        self._workers[worker].failures = 0

    def wait(self) -> list[Answered]:
        """What has come; waits for something.

        Raises:
            ServerLost: a server is gone or does not answer.
            WorkersLost: see there.
        """
        while True:
            ready, _ = ray.wait(list(self._awaited), timeout=LOOK_S)
            if ready:
                break
            self._look()
        ready, _ = ray.wait(list(self._awaited), num_returns=len(self._awaited), timeout=0)
        out: list[Answered] = []
        for reference in ready:
            if (awaited := self._awaited.pop(reference, None)) is not None:  # else lost with its worker just now
                out += self._answer(reference, awaited)
        return out

    def _answer(self, reference: Any, awaited: _Awaited) -> list[Answered]:
        what, worker, number = awaited.what, awaited.worker, awaited.number
        try:
            value = ray.get(reference)
        except RayTaskError:  # its code raised: no death; ServerLost as such
            raise
        except RayActorError as e:
            if worker < 0:
                raise ServerLost(f"a parameter server is gone, asked to take a gradient: {e}") from None
            return self._bury(worker, e)
        except RayError:
            assert what == "pushed", what  # a gradient died with its worker
            return [Answered(what, number=number, value=False)]
        if what == "pushed":
            return [Answered(what, number=number, value=True)]
        if what == "up":
            self._workers[worker].up = True
        if what == "computed":
            assert isinstance(value, Computed)
            self._workers[worker].busy = False
        return [Answered(what, worker, number, value)]

    def _bury(self, number: int, error: RayActorError) -> list[Answered]:
        worker = self._workers[number]
        was_up, worker.failures = worker.up, worker.failures + 1
        if worker.failures > self.plan.max_failures:
            raise WorkersLost(
                f"worker {number} died {worker.failures} times in a row without an update in between, more than "
                f"train.max_failures={self.plan.max_failures} allows: {error}"
            )
        self._awaited = {r: a for r, a in self._awaited.items() if a.worker != number}
        self._start(number)
        return [Answered("lost", number)] if was_up else []

    def _look(self) -> None:
        """Kill a worker that has computed for too long (it is then buried); give up on a silent server."""
        now = time.monotonic()
        for awaited in self._awaited.values():
            if now - awaited.since < self.timeout_s:
                continue
            if awaited.what == "computed":
                log.warning("worker %d has not answered for %g s: it is replaced", awaited.worker, self.timeout_s)
                ray.kill(self._workers[awaited.worker].actor)
            elif awaited.what in ("pushed", "applied"):
                raise ServerLost(f"a parameter server has not taken a gradient for {self.timeout_s:g} s")
            elif not any(worker.up for worker in self._workers):
                raise WorkersLost(
                    f"no worker has started for {self.timeout_s:g} s: does the cluster have train.workers x "
                    "train.cpus_per_worker CPUs beside the servers'?"
                )

    def evaluate(self, micro_batches: Sequence[MicroBatch], take: Callable[[Answered], None]) -> list[float]:
        """The sums of all micro-batches, whoever takes which; `take` hears who came up or was lost meanwhile."""
        sums: dict[int, float] = {}
        while missing := [i for i in range(len(micro_batches)) if i not in sums]:
            while not (idle := self.idle):
                for answer in self.wait():
                    take(answer)
            shares = {worker: missing[i :: len(idle)] for i, worker in enumerate(idle)}
            asked = {
                worker: self._workers[worker].actor.evaluate.remote([sent(micro_batches[i]) for i in share])
                for worker, share in shares.items()
                if share
            }
            for worker, reference in asked.items():
                try:
                    sums |= dict(zip(shares[worker], ray.get(reference, timeout=self.timeout_s), strict=True))
                except RayTaskError:
                    raise
                except RayActorError as e:
                    for answer in self._bury(worker, e):
                        take(answer)
        return [sums[i] for i in range(len(micro_batches))]
