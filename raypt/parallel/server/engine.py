"""The engine of a worker whose weights come from parameter servers, all workers in step.

A worker holds the model's weights and one gradient, no optimizer state. It sends 4 bytes a parameter and step (2 with
`gradient_dtype: bf16`) and receives 4 (2 in bf16), whatever the number of workers; a server receives from all.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from raypt.model import Llama
from raypt.model.batch import MicroBatch
from raypt.parallel import comm
from raypt.parallel.agreement import Agreed, Offer, agree_in_step
from raypt.parallel.comm_clock import CLOCK
from raypt.parallel.config import ParameterServerConfig
from raypt.parallel.engine import BatchLoss, StepResult, Timing
from raypt.parallel.pulse import PULSE
from raypt.parallel.server.cluster import Servers
from raypt.parallel.server.flat import Flat, Slice
from raypt.parallel.server.slice import MakeOptimizer, Snapshot
from raypt.parallel.server.travel import packed, unpacked
from raypt.parallel.state import MASTER, ShardSource, StateKey, StateShard, Want
from raypt.parallel.topology import Topology

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class ServerEngine:
    """Data parallelism through parameter servers: the same arithmetic as ZeRO 0. Ray and the process group must exist.
    A new engine holds no values: `restore` it.
    """

    def __init__(
        self,
        build: Callable[[], Llama],
        *,
        topology: Topology,
        config: ParameterServerConfig,
        optimizer: MakeOptimizer,
        precision: str,
        clip_norm: float | None,
        device: torch.device,
        timeout_s: float,
        z_loss: float = 0.0,
        loss_chunk_tokens: int = 2048,
        compile_blocks: bool = False,
    ) -> None:
        assert topology.world_size == topology.data_size, "each worker holds a whole model"
        self.topology, self.timing, self.device = topology, Timing(), device
        self.z_loss, self.loss_chunk_tokens = z_loss, loss_chunk_tokens
        self._travel, self._weights_type = TYPES[config.gradient_dtype], TYPES[precision]
        with torch.device("meta"):
            model = build()
        self.module = model.allocated(device, self._weights_type)
        if compile_blocks:
            for layer in self.module.model.layers:
                layer.compile()
        flat = Flat({name: tuple(p.shape) for name, p in self.module.named_parameters()})
        self.slices = flat.cut(config.servers)
        self._weights = torch.empty(flat.numel, dtype=self._weights_type, device=device)
        self._gradient = torch.empty(flat.numel, device=device)
        for name, p in self.module.named_parameters():
            start, shape = flat.places[name]
            p.data = self._weights.narrow(0, start, p.numel()).view(shape)
            into = self._gradient.narrow(0, start, p.numel())
            p.register_post_accumulate_grad_hook(partial(_add_up, into=into))
        self._round = 0
        self.servers = Servers(
            config,
            {
                "flat": flat, "workers": topology.world_size, "optimizer": optimizer, "clip_norm": clip_norm,
                "weights_dtype": self._weights_type,
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
        self.timing = Timing()
        with self._timed("communication"):
            tokens = round(comm.all_reduce_floats([sum(m.tokens for m in micro_batches)], self.device)[0])
        self._gradient.zero_()
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        for micro in micro_batches:
            micro = micro.to(self.device)
            with self._timed("forward"):
                targets = micro.targets(self.z_loss, self.loss_chunk_tokens)
                loss, z = self.module(micro.tokens_BS, micro.segments_BS, targets=targets)
            with self._timed("backward"):
                (loss / max(tokens, 1)).backward()
                sums += torch.stack((loss.detach(), z.detach())).double()
        with self._timed("communication"):
            self._push()
            comm.all_reduce(sums)
        loss_sum, z_sum = sums.tolist()
        return BatchLoss(loss_sum, z_sum, tokens)

    def _push(self) -> None:
        me, at = self.topology.rank, self._round
        cuts = [packed(s.of(self._gradient), self._travel) for s in self.slices]
        self._sent = [a.push.remote(me, at, cut) for a, cut in zip(self.servers.actors, cuts, strict=True)]

    def step(self, lr_scale: float) -> StepResult:
        """See TrainEngine."""
        with self._timed("step"):
            if self.topology.rank == 0:
                self._sent += [a.update.remote(self._round, lr_scale) for a in self.servers.actors]
            return self._end_round()

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
            cut.of(self._weights).copy_(unpacked(array))
        norms = {norm for norm, _ in pulled}
        assert len(norms) == 1, "the servers do not agree on the norm"
        norm: float | None = norms.pop()
        return norm

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        """Add the time of the block to a part, and what it waited for others in it to communication instead."""
        PULSE.at(part)
        started, communicated = time.perf_counter(), CLOCK.seconds
        yield
        communication = CLOCK.seconds - communicated
        self.timing.communication += communication
        own = time.perf_counter() - started - communication
        setattr(self.timing, part, getattr(self.timing, part) + own)

    @torch.no_grad()
    def evaluate(self, micro_batches: Sequence[MicroBatch]) -> list[float]:
        """See TrainEngine."""
        sums = []
        for micro in micro_batches:
            micro = micro.to(self.device)
            targets = micro.targets(chunk_tokens=self.loss_chunk_tokens)
            sums.append(self.module(micro.tokens_BS, micro.segments_BS, targets=targets)[0])
        return torch.stack(sums).tolist() if sums else []

    def _own(self) -> Iterator[tuple[Slice, Any]]:
        """The slices that this rank writes and reads, with their servers: the ranks share them out."""
        for i in range(self.topology.rank, len(self.slices), self.topology.world_size):
            yield self.slices[i], self.servers.actors[i]

    def shard(self) -> StateShard:
        """See TrainEngine. The slices of this rank's servers, copied between two steps."""
        tensors: dict[StateKey, Tensor] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        scalars: dict[str, float] = {}
        for cut, actor in self._own():
            snapshot: Snapshot = self.servers.ask("for their state", [actor.snapshot.remote()])[0]
            scalars |= snapshot.scalars
            for state, array in snapshot.states.items():
                flat = unpacked(array)
                for segment in cut.segments:
                    shapes[segment.name] = segment.shape
                    for box, view in segment.piece(flat).boxes(flat):
                        tensors[StateKey(segment.name, state, box)] = view
        return StateShard(tensors, shapes, scalars)

    def restore(self, source: ShardSource) -> None:
        """See TrainEngine. Each slice passes through the memory of the rank that reads it."""
        for cut, actor in self._own():
            names = {state for segment in cut.segments for state in source.states(segment.name)} | {MASTER}
            states = {state: torch.zeros(cut.numel) for state in sorted(names)}
            wants = [
                Want(StateKey(segment.name, state, box), view)
                for segment in cut.segments
                for state in source.states(segment.name)
                for box, view in segment.piece(states[state]).boxes(states[state])
            ]
            source.read(wants)
            scalars = dict(source.scalars) if len(states) > 1 else {}
            snapshot = Snapshot({state: flat.numpy() for state, flat in states.items()}, scalars)
            self.servers.ask("to take a state", [actor.load.remote(snapshot)])
        comm.barrier()
        self._pull()


def _add_up(p: Tensor, *, into: Tensor) -> None:
    """The gradient of one backward pass, added in fp32."""
    assert p.grad is not None
    into.add_(p.grad.reshape(-1))
    p.grad = None
