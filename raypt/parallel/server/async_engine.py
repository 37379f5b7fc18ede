"""The engine of asynchronous parameter servers: one rank that leads, workers that compute, servers that apply.

The rank that runs the train loop computes nothing. It leases the samples of each batch to the workers, has the servers
apply each gradient when it is there, and hands the loop what came in since its last step. So the loop, the stream,
checkpoints and records are those of every strategy, and a worker that dies is this rank's business alone: its lease
goes to another worker, the others do not notice. A server that dies ends the start of the rank, and all begin again
from the last checkpoint.

A checkpoint, and an evaluation, are of all samples before them and of none after: no further lease is given until all
are done. Messages are small, two calls a lease and worker and two a server; weights and gradients go between workers
and servers.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from raypt.model.batch import MicroBatch
from raypt.parallel.agreement import Agreed, Offer, agree_in_step
from raypt.parallel.comm_clock import CLOCK
from raypt.parallel.config import ParameterServerConfig
from raypt.parallel.engine import Applied, BatchLoss, StepResult, Timing, Update
from raypt.parallel.flat.layout import Flat
from raypt.parallel.flat.slice import MakeOptimizer
from raypt.parallel.pulse import PULSE
from raypt.parallel.server.async_actor import AsyncServer
from raypt.parallel.server.cluster import Servers
from raypt.parallel.server.crew import Answered, Crew, CrewPlan
from raypt.parallel.server.gradient_worker import Computed, MakeReplica
from raypt.parallel.server.leases import Grant, Lease, Leases
from raypt.parallel.server.state import fill_slices, read_slices
from raypt.parallel.state import ShardSource, StateShard
from raypt.parallel.topology import Topology

log = logging.getLogger("raypt")

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
AHEAD = 2
"""Batches whose leases may be under way or free at a time: one in the hands of workers, one that the next may take."""


@dataclass
class _Open:
    """A gradient that servers have or are about to have."""

    grant: Grant
    computed: Computed
    began: float
    missing: int
    """Servers that have not yet got it; then, that have not yet applied it."""
    number: int = -1
    rate: float = 0.0


class AsyncServerEngine:
    """See TrainEngine; of one rank. Ray and the group must exist. A new engine holds no values: `restore` it."""

    def __init__(
        self,
        flat: Flat,
        replica: MakeReplica,
        *,
        topology: Topology,
        config: ParameterServerConfig,
        optimizer: MakeOptimizer,
        clip_norm: float | None,
        weights_dtype: torch.dtype,
        crew: CrewPlan,
        rate: Callable[[int], float],
        meets: Callable[[int], bool],
        timeout_s: float,
        first_timeout_s: float,
    ) -> None:
        """`flat`: of the model. `rate(step)`: factor on the peak rates for the samples of that batch, from 0.
        `meets(step)`: whether everything is to be done after so many batches, for a checkpoint, an evaluation, the end.
        """
        assert topology.world_size == 1 and config.staleness != 0
        self.topology, self.config, self.device = topology, config, torch.device("cpu")
        self.timing = Timing(workers=crew.workers)
        self.slices = flat.cut(config.servers)
        self._rate, self._meets, self._first_timeout_s = rate, meets, first_timeout_s
        arguments = {"flat": flat, "optimizer": optimizer, "clip_norm": clip_norm, "weights_dtype": weights_dtype}
        self.servers = Servers(config, AsyncServer, arguments, rank=0, timeout_s=timeout_s)
        self.leases = Leases(config.staleness)
        self.crew = Crew(crew, replica, self.servers.names, TYPES[config.gradient_dtype], timeout_s=first_timeout_s)
        self._timeout_s = timeout_s
        self._batches: dict[int, list[MicroBatch]] = {}
        """By the first sample of a lease, until it is done."""
        self._open: dict[int, _Open] = {}
        self._computing: dict[int, Grant] = {}
        """By worker."""
        self._ahead: dict[int, int] = {}
        """By worker that has weights for its next gradient: of how many steps that will be ahead of them."""
        self._applying: dict[int, _Open] = {}
        """By number of the update."""
        self._issued = self._closed = self._submitted = self._finished = 0
        self._first = self._sent = 0
        self._fresh: list[Applied] = []
        self._trail: list[Applied] = []

    def agree(self, offer: Offer) -> Agreed:
        """See TrainEngine."""
        self._first = offer.first
        return agree_in_step(self.topology, offer, self.device)

    def forward_backward(self, micro_batches: Sequence[MicroBatch]) -> BatchLoss:
        """Lease the batch out, and wait until less than two batches are under way. The loss is the mean of the updates
        that came in since the last call, most of them of samples before these; the tokens are those of this batch.
        """
        self.timing = Timing(workers=self.crew.plan.workers)
        step = self._submit(micro_batches)
        if self._meets(step + 1):
            self.drain()
        while not self._fresh or self._submitted - self._finished > AHEAD * self.crew.plan.workers:
            self._pump()
        self.timing.sent_bytes, self._sent = divmod(self._sent, self.crew.plan.workers)  # by one of them
        made = [a.update for a in self._fresh if not a.update.skipped] or [a.update for a in self._fresh]
        share = sum(m.tokens for m in micro_batches) / max(sum(u.tokens for u in made), 1)
        return BatchLoss(
            math.fsum(u.loss_sum for u in made) * share,
            math.fsum(u.z_sum for u in made) * share,
            sum(m.tokens for m in micro_batches),
        )

    def _submit(self, micro_batches: Sequence[MicroBatch]) -> int:
        """The batch as one lease a worker; returns its step."""
        each, rest = divmod(len(micro_batches), self.crew.plan.workers)
        assert not rest, "every worker has a share of the batch"
        samples = sum(m.sample_index_B.size for m in micro_batches)
        step = self._first // samples
        for at in range(0, len(micro_batches), each):
            share = list(micro_batches[at : at + each])
            lease = Lease(int(share[0].sample_index_B[0]), sum(m.sample_index_B.size for m in share), step)
            self._batches[lease.first] = share
            self.leases.offer(lease)
            self._submitted += 1
        return step

    def step(self, lr_scale: float, max_norm: float | None = None) -> StepResult:
        """The updates have been made, each at the rate of its own step: what they were like. Norms are their root mean
        square.
        """
        fresh, self._fresh = [a.update for a in self._fresh], []
        norms = [u.norm for u in fresh if u.norm is not None]
        self.timing.updates = fresh
        if not norms:
            return StepResult(None, skipped=True)
        return StepResult(math.sqrt(math.fsum(n * n for n in norms) / len(norms)), skipped=False)

    def discard(self) -> StepResult:
        """See TrainEngine: none of the updates since the last step was made, their losses were not finite."""
        self.step(0.0)
        return StepResult(None, skipped=True)

    def drain(self) -> None:
        """Wait until all leases are done: the weights are of all samples so far, on all servers."""
        while self.leases.outstanding:
            self._pump()
        self.leases.level()
        self._ahead.clear()

    def take_updates(self) -> list[Applied]:
        """The updates since the last call, in the order in which they were made."""
        out, self._trail = self._trail, []
        return out

    def _pump(self) -> None:
        """Give out what may be given, and take in what has come, waiting for it if it has not."""
        for worker in self.crew.idle:
            if (grant := self.leases.take(worker)) is None:
                continue
            # Weights fetched while the worker computed its gradient before lack what those lacked, and that gradient.
            fetched, lead = worker in self._ahead, self._ahead.pop(worker, grant.lead)
            bound = self.config.staleness
            if fetch := self.config.overlap_pull and (bound is None or grant.lead < bound):
                self._ahead[worker] = grant.lead + 1
            grant = replace(grant, lead=lead)
            self._computing[worker] = grant
            micro_batches = self._batches[grant.lease.first]
            self.crew.compute(worker, grant.number, micro_batches, use_fetched=fetched, fetch=fetch)
        PULSE.at("waiting for gradients")
        with CLOCK:
            answers = self.crew.wait()
        for answer in answers:
            self._take(answer)

    def _take(self, answer: Answered) -> None:
        match answer.what:
            case "up":
                self.leases.join(answer.worker)
            case "lost":
                self._lost(answer.worker)
            case "computed":
                self._computed(self._computing.pop(answer.worker), answer.value)
            case "pushed":
                self._pushed(answer.number, whole=answer.value)
            case "applied":
                self._applied(answer.number)

    def _lost(self, worker: int) -> None:
        self._computing.pop(worker, None)
        self._ahead.pop(worker, None)
        back = self.leases.leave(worker)
        for grant in back:
            self._forget(grant)
        said = ", ".join(f"{g.lease.first} to {g.lease.first + g.lease.samples - 1}" for g in back)
        log.warning("worker %d is lost%s", worker, f": others train on samples {said}" if back else "")

    def _forget(self, grant: Grant) -> None:
        """What has come, or is on its way, of a lease that somebody else gets."""
        if self._open.pop(grant.number, None) is not None:
            self.crew.forget(grant.number)
        # Whether it pushed anything before it died is not known.
        self.servers.ask("to forget a gradient", [a.forget.remote(grant.number) for a in self.servers.actors])

    def _computed(self, grant: Grant, computed: Computed) -> None:
        lease = grant.lease
        assert computed.samples.tolist() == list(range(lease.first, lease.first + lease.samples)), "of other samples"
        self.crew.timeout_s = self._timeout_s
        self._sent += computed.sent_bytes
        for part, seconds in computed.seconds.items():
            setattr(self.timing, part, getattr(self.timing, part) + seconds / self.crew.plan.workers)
        opened = _Open(grant, computed, time.time(), len(self.servers))
        if computed.norm is None:
            self._close(opened, skipped=True)
            return
        self._open[grant.number] = opened
        self.crew.watch("pushed", grant.number, computed.pushed)

    def _pushed(self, number: int, *, whole: bool) -> None:
        if (opened := self._open.get(number)) is None:
            return  # given up a moment ago
        if not whole:  # the worker died with it, and will be heard to have
            self.crew.check(opened.grant.worker)
            return
        opened.missing -= 1
        if opened.missing:
            return
        self.leases.commit(opened.grant)
        opened.number, self._issued = self._issued, self._issued + 1
        opened.rate = self._rate(opened.grant.lease.step)
        if self.config.staleness_rate:
            opened.rate /= max(1, opened.number - opened.computed.version)
        opened.missing = len(self.servers)
        self._applying[opened.number] = opened
        norm = opened.computed.norm
        calls = [a.apply.remote(number, norm, opened.rate) for a in self.servers.actors]
        self.crew.watch("applied", number, calls)

    def _applied(self, number: int) -> None:
        self._open[number].missing -= 1
        # Servers make updates in the order of their numbers; that they have is not always heard in it.
        while (first := self._applying.get(self._closed)) is not None and not first.missing:
            del self._applying[self._closed], self._open[first.grant.number]
            self._closed += 1
            self._close(first, skipped=False)

    def _close(self, opened: _Open, *, skipped: bool) -> None:
        grant, computed = opened.grant, opened.computed
        self.leases.finish(grant)
        self.crew.praise(grant.worker)
        self._finished += 1
        update = Update(
            number=opened.number,
            step=grant.lease.step + 1,
            worker=grant.worker,
            first_sample=grant.lease.first,
            samples=grant.lease.samples,
            stale_steps=grant.lead,
            stale_versions=0 if skipped else opened.number - computed.version,
            loss_sum=computed.loss_sum,
            z_sum=computed.z_sum,
            tokens=computed.tokens,
            norm=computed.norm,
            lr_scale=opened.rate,
            skipped=skipped,
            time=time.time(),
        )
        applied = Applied(update, self._batches.pop(grant.lease.first))
        self._fresh.append(applied)
        self._trail.append(applied)

    def evaluate(self, micro_batches: Sequence[MicroBatch]) -> list[float]:
        """See TrainEngine. Between two updates, by whichever workers are there."""
        self.drain()
        return self.crew.evaluate(micro_batches, self._take)

    def shard(self) -> StateShard:
        """See TrainEngine: after all leases."""
        self.drain()
        return read_slices(self.servers, zip(self.slices, self.servers.actors, strict=True))

    def restore(self, source: ShardSource) -> None:
        """See TrainEngine. Each slice passes through the memory of this rank."""
        fill_slices(self.servers, zip(self.slices, self.servers.actors, strict=True), source)
        self._issued = self._closed = 0
