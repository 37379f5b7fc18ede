"""What judges a model that no single rank holds: its weights on a mesh, and nothing else.

A rank holds its cut of the weights in the type that they are computed with: in bf16 2 bytes a parameter of its cut,
where an engine that trains holds 16 and more. Of the replicas of a mesh each holds a whole model, as under ZeRO 0 to 2;
or ranks cut the weights between them, as under ZeRO 3. DeepSpeed has no part in it, nor the strategy that trained.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from raypt.model import Llama
from raypt.model.batch import MicroBatch
from raypt.model.llama import KVCache
from raypt.model.weights import runs
from raypt.parallel.cut import Forward, cut_to_mesh
from raypt.parallel.mesh import Group, Mesh
from raypt.parallel.pipeline.runner import Plan, Runner
from raypt.parallel.state import MASTER, Piece, ShardSource, StateKey, Want
from raypt.parallel.weights.gathered import Gathered

READ = 64 << 20
"""Elements read at a time at most, in float32: enough for the storage's full rate, in memory beside the weights."""


class _Held(NamedTuple):
    """A run of a parameter that this rank holds."""

    name: str
    first: int
    """In this rank's flattened part of the parameter."""
    values: Tensor
    """Flat, a view."""


class WeightsEngine:
    """Weights for forward passes alone, over any mesh. The process group must exist. Every method is collective. A new
    engine holds no values: `restore` it.
    """

    def __init__(
        self,
        build: Callable[[], Llama],
        *,
        mesh: Mesh,
        layers: Sequence[int],
        cut_weights: bool,
        dtype: torch.dtype,
        device: torch.device,
        in_host_memory: bool = False,
        loss_chunk_tokens: int = 2048,
    ) -> None:
        """`layers`: of each rank of a pipeline. `cut_weights`: ranks that would hold the same hold a part of it each,
        with `in_host_memory` not on the device.
        """
        self.topology = mesh.topology
        self._chunk_tokens, self._cached = loss_chunk_tokens, mesh.context.size == 1
        # Without sequence parallelism: single tokens are decoded, which cannot be shared out.
        model, self._layout, stages = cut_to_mesh(build, mesh, sequence_parallel=False, layers=layers)
        self.module, self._vocabulary = model.requires_grad_(False), model.config.vocab
        self._device = device
        self._gathered: Gathered | None = None
        self._sharers: Group | None = None
        """Ranks that hold the same, if there are others."""
        if cut_weights and mesh.gradient.size > 1:
            assert not stages, "ZeRO 3 has no pipelines"
            kept = torch.device("cpu") if in_host_memory else device
            self._gathered = Gathered(model, mesh.gradient, dtype, device, kept)
        else:
            model.allocated(device, dtype)
            self._sharers = mesh.gradient if mesh.gradient.size > 1 else None
        runner = None
        if stages:
            assert len(stages) == 1
            plan = Plan("1f1b", 1, mesh.pipeline.size)
            runner = Runner(stages, plan, mesh.pipeline, mesh.context.size, device)
        self._forward = Forward(model, runner, mesh, device)

    @property
    def nbytes(self) -> int:
        """Of the weights that this rank holds."""
        return sum(held.values.nbytes for held in self._held())

    def _held(self) -> Iterator[_Held]:
        if self._gathered is not None:
            yield from (_Held(*cut) for cut in self._gathered.cuts())
        else:
            yield from (_Held(name, 0, p.data.view(-1)) for name, p in self.module.named_parameters())

    @torch.no_grad()
    def restore(self, source: ShardSource) -> None:
        """Take the weights from a checkpoint written by any strategy on any mesh, or from Hugging Face's files. Ranks
        that hold the same share the reading.
        """
        parts = [
            _Held(held.name, held.first + start, held.values[start : start + numel])
            for held in self._held()
            for start, numel in runs(held.values.numel(), READ)
        ]
        while parts:
            count = elements = 0
            while count < len(parts) and (count == 0 or elements + parts[count].values.numel() <= READ):
                elements += parts[count].values.numel()
                count += 1
            read, at = self._read(source, parts[:count], elements), 0
            for _, _, values in parts[:count]:
                values.copy_(read[at : at + values.numel()])
                at += values.numel()
            del parts[:count]

    def _read(self, source: ShardSource, parts: Sequence[_Held], elements: int) -> Tensor:
        """The elements of some parts one after the other, float32."""
        ranks, rank = (self._sharers.size, self._sharers.rank) if self._sharers is not None else (1, 0)
        share = -(-elements // ranks)
        low, at, own, wants = rank * share, 0, torch.zeros(share), []
        for name, first, values in parts:
            start, end = max(at, low), min(at + values.numel(), low + share)
            if start < end:
                part = self._layout[name]
                piece = Piece(name, part.shape, part.box, first + start - at, end - start, own, start - low)
                wants += [Want(StateKey(name, MASTER, box), view) for box, view in piece.boxes(own)]
            at += values.numel()
        source.read(wants)
        if self._sharers is None:
            return own
        own = own.to(self._device)
        whole = own.new_empty(ranks * share)
        dist.all_gather_into_tensor(whole, own, group=self._sharers.handle)
        return whole

    def evaluate(self, micro_batches: Sequence[MicroBatch]) -> list[float]:
        """The sum of the cross-entropy over each micro-batch of this replica, nats. All ranks bring equally many."""
        return self._forward.losses(micro_batches, self._chunk_tokens)

    def logits(self, micro_batches: Sequence[MicroBatch], cache: KVCache | None = None) -> list[Tensor]:
        """Of the valid positions of each micro-batch of this replica, row by row, (N, V) in float32, on each of its
        ranks: for a few positions at a time. All ranks bring equally many. `cache` (see `new_cache`): a single
        micro-batch continues it.
        """
        return self._forward.logits(micro_batches, self._vocabulary, cache)

    def new_cache(self) -> KVCache | None:
        """For this rank's layers; None where positions are cut over ranks, which one token cannot be."""
        return KVCache.empty() if self._cached else None
