"""The one facade between the train loop and a parallel strategy."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from raypt.model.batch import MicroBatch
from raypt.parallel.agreement import Agreed, Offer
from raypt.parallel.pipeline.record import StepRecord
from raypt.parallel.state import ShardSource, StateShard
from raypt.parallel.topology import Topology


@dataclass(frozen=True)
class BatchLoss:
    """Sums over the global batch, the same on every rank."""

    loss_sum: float
    """Cross-entropy in nats."""
    z_sum: float
    """Squared log-partition."""
    tokens: int
    """Valid targets."""

    @property
    def loss(self) -> float:
        """Nats a token; a batch without valid targets has none."""
        return self.loss_sum / self.tokens if self.tokens else 0.0


@dataclass(frozen=True)
class StepResult:
    """What an update did."""

    grad_norm: float | None
    """Global norm before clipping; None where the gradients were not finite or were discarded unseen."""
    skipped: bool
    """All ranks left the weights as they were."""


@dataclass
class Timing:
    """The last step on this rank: seconds, of which the parts do not overlap, and bytes.

    Host time: on a GPU `forward` is the time to queue the kernels, and `backward` includes the wait until all are done.
    """

    forward: float = 0.0
    backward: float = 0.0
    step: float = 0.0
    """Norm, clipping and the optimizer."""
    communication: float = 0.0
    """In collectives, wherever they are called: gathering weights, reducing gradients, sums, and in each the wait for
    slower ranks. What a GPU overlaps with computing is not in it.
    """
    pipeline: StepRecord | None = None
    """When each rank of this one's pipeline was at what, in a step that was recorded (`train.parallel.record_every`).
    """
    sent_bytes: int | None = None
    """Of gradients and weights, by this rank; an all-reduce as a ring has it, 2 (n - 1) / n of its buffer. None where
    the strategy does not count them.
    """
    workers: int | None = None
    """Processes that compute gradients, where those are not the ranks."""
    updates: "list[Update]" = field(default_factory=list)
    """That were made since the last step, by asynchronous workers."""


@dataclass(frozen=True)
class Update:
    """What one gradient of an asynchronous worker did to the weights."""

    number: int
    """In the order in which they were made, from 0 at each start of the run: the version of the weights before it. -1
    where it was skipped.
    """
    step: int
    """Of the batch that its samples are of, from 1."""
    worker: int
    first_sample: int
    samples: int
    stale_steps: int
    """Of how many steps of its own the worker was ahead, when it began, of what every worker had in the weights (the
    clock differential of Ho et al. 2013). What `train.parameter_server.staleness` bounds.
    """
    stale_versions: int
    """Updates that were made to the weights between its taking them and this update (Zhang et al. 2016)."""
    loss_sum: float
    z_sum: float
    tokens: int
    norm: float | None
    """Of the gradient of its own mean loss, before clipping; None where it is not finite."""
    lr_scale: float
    skipped: bool
    time: float
    """Seconds since the epoch, when it was made."""


@dataclass(frozen=True)
class Applied:
    """An update, and the samples that it is of."""

    update: Update
    micro_batches: Sequence[MicroBatch]


class TrainEngine(Protocol):
    """Any parallel strategy, seen from the train loop. Every method is collective: all ranks call it together."""

    timing: Timing
    topology: Topology

    def agree(self, offer: Offer) -> Agreed:
        """Before a step: does every rank that this one steps with have its samples, and are they those of the step?
        Raises RuntimeError for samples of another step.
        """

    def forward_backward(self, micro_batches: Sequence[MicroBatch]) -> BatchLoss:
        """Accumulate the gradient of (global loss sum) / (global valid tokens) over this rank's micro-batches."""

    def step(self, lr_scale: float, max_norm: float | None = None) -> StepResult:
        """Clip and update with `lr_scale` times the peak rates. All ranks skip alike if a gradient is not finite, or if
        the global norm is above `max_norm`: a skipped result that has a norm.
        """

    def discard(self) -> StepResult:
        """Drop the accumulated gradients instead of stepping."""

    def shard(self) -> StateShard:
        """This rank's part of the state: live views, to be copied by the caller before the next step."""

    def restore(self, source: ShardSource) -> None:
        """Take weights and optimizer state from a checkpoint written by any number of ranks on any mesh, or the first
        weights from `InitialState`. A new engine holds none.
        """

    def evaluate(self, micro_batches: Sequence[MicroBatch]) -> list[float]:
        """The sum of the cross-entropy over each micro-batch of this replica, nats. All ranks bring equally many."""


class Restores(Protocol):
    """What takes a saved state, or the weights of one. Collective."""

    def restore(self, source: ShardSource) -> None:
        """See TrainEngine."""


@runtime_checkable
class Closes(Protocol):
    """What an engine has besides whose memory is not free when nothing refers to it."""

    def close(self) -> None:
        """Let go of it; the engine is of no use from then on."""


@runtime_checkable
class Asynchronous(Protocol):
    """What an engine has besides whose samples are under way when a step returns."""

    def drain(self) -> None:
        """Wait until all samples so far are trained on."""

    def take_updates(self) -> list[Applied]:
        """The updates since the last call, in the order in which they were made."""
