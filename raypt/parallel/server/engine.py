"""The engine of a worker whose weights come from parameter servers, all workers in step.

A worker holds the model's weights and one gradient, no optimizer state. It sends 4 bytes a parameter and step (2 with
`gradient_dtype: bf16`) and receives 4 (2 in bf16), whatever the number of workers; a server receives from all.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from raypt.model.batch import MicroBatch
from raypt.parallel import comm
from raypt.parallel.agreement import Agreed, Offer, agree_in_step
from raypt.parallel.config import ParameterServerConfig
from raypt.parallel.engine import BatchLoss, StepResult
from raypt.parallel.flat.layout import Slice
from raypt.parallel.flat.replica import Replica
from raypt.parallel.flat.slice import MakeOptimizer
from raypt.parallel.server.actor import Server
from raypt.parallel.server.cluster import Servers
from raypt.parallel.server.state import fill_slices, read_slices
from raypt.parallel.server.travel import packed, unpacked
from raypt.parallel.state import ShardSource, StateShard
from raypt.parallel.topology import Topology

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class ServerEngine:
    """Data parallelism through parameter servers: the same arithmetic as ZeRO 0. Ray and the process group must exist.
    A new engine holds no values: `restore` it.
    """

    def __init__(
        self,
        replica: Replica,
        *,
        topology: Topology,
        config: ParameterServerConfig,
        optimizer: MakeOptimizer,
        clip_norm: float | None,
        timeout_s: float,
    ) -> None:
        assert topology.world_size == topology.data_size, "each worker holds a whole model"
        self.topology, self.replica = topology, replica
        self.module, self.device, self.timing = replica.module, replica.device, replica.begin()
        self._travel = TYPES[config.gradient_dtype]
        self.slices = replica.flat.cut(config.servers)
        optimizer(replica.module)  # a mistake in its settings ends the run here, and not as the death of a server
        self._round = 0
        self.servers = Servers(
            config,
            Server,
            {
                "flat": replica.flat, "workers": topology.world_size, "optimizer": optimizer, "clip_norm": clip_norm,
                "weights_dtype": replica.weights.dtype,
            },
            rank=topology.rank,
            timeout_s=timeout_s,
        )  # fmt: skip
        self._sent: list[Any] = []

    def agree(self, offer: Offer) -> Agreed:
        """See TrainEngine."""
        return agree_in_step(self.topology, offer, self.device)

    def forward_backward(self, micro_batches: Sequence[MicroBatch]) -> BatchLoss:
        """See TrainEngine. The gradient is on its way to the servers when this returns."""
        self.timing = self.replica.begin()
        with self.replica.timed("communication"):
            tokens = round(comm.all_reduce_floats([sum(m.tokens for m in micro_batches)], self.device)[0])
        sums = self.replica.passes(micro_batches, tokens)
        with self.replica.timed("communication"):
            self._push()
            comm.all_reduce(sums)
        loss_sum, z_sum = sums.tolist()
        return BatchLoss(loss_sum, z_sum, tokens)

    def _push(self) -> None:
        me, at = self.topology.rank, self._round
        cuts = [packed(s.of(self.replica.gradient), self._travel) for s in self.slices]
        self.timing.sent_bytes = sum(cut.nbytes for cut in cuts)
        self._sent = [a.push.remote(me, at, cut) for a, cut in zip(self.servers.actors, cuts, strict=True)]

    def step(self, lr_scale: float, max_norm: float | None = None) -> StepResult:
        """See TrainEngine."""
        with self.replica.timed("step"):
            if self.topology.rank == 0:
                self._sent += [a.update.remote(self._round, lr_scale, max_norm) for a in self.servers.actors]
            ended = self._end_round()
        if ended.grad_norm is not None and max_norm is not None and ended.grad_norm > max_norm:
            return StepResult(ended.grad_norm, skipped=True)
        return ended

    def discard(self) -> StepResult:
        """See TrainEngine."""
        if self.topology.rank == 0:
            self._sent += [a.discard.remote(self._round) for a in self.servers.actors]
        return self._end_round()

    def _end_round(self) -> StepResult:
        self._round += 1
        norm = self._pull()
        self.servers.ask("for the end of a step", self._sent)  # done by now: this raises what went wrong in them
        self._sent = []
        return StepResult(norm, skipped=norm is None)

    def _pull(self) -> float | None:
        """Wait for the round to begin and take its weights; the norm of the one before."""
        pulled = self.servers.ask("for weights", [a.pull.remote(self._round) for a in self.servers.actors])
        arrays = self.servers.ask("for weights", [reference for _, (reference,) in pulled])
        for cut, array in zip(self.slices, arrays, strict=True):
            cut.of(self.replica.weights).copy_(unpacked(array))
        norms = {norm for norm, _ in pulled}
        assert len(norms) == 1, "the servers do not agree on the norm"
        norm: float | None = norms.pop()
        return norm

    def evaluate(self, micro_batches: Sequence[MicroBatch]) -> list[float]:
        """See TrainEngine."""
        return self.replica.evaluate(micro_batches)

    def _own(self) -> Iterator[tuple[Slice, Any]]:
        """The slices that this rank writes and reads, with their servers: the ranks share them out."""
        for i in range(self.topology.rank, len(self.slices), self.topology.world_size):
            yield self.slices[i], self.servers.actors[i]

    def shard(self) -> StateShard:
        """See TrainEngine. The slices of this rank's servers, copied between two steps."""
        return read_slices(self.servers, self._own())

    def restore(self, source: ShardSource) -> None:
        """See TrainEngine. Each slice passes through the memory of the rank that reads it."""
        fill_slices(self.servers, self._own(), source)
        comm.barrier()
        self._pull()
