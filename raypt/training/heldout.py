"""Held-out loss and bits per byte, by source and language, with all ranks sharing the samples."""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from raypt import storage
from raypt.model.batch import MicroBatch, micro_batch
from raypt.parallel import comm
from raypt.parallel.engine import TrainEngine
from raypt.tokens.store.files import TokenStore
from raypt.training.heldout_plan import HeldoutPlan, plan_samples

_TOGETHER = 16
"""Micro-batches handed to the engine at a time: what is in memory, and enough to fill a pipeline."""


_KEPT_BYTES = 64 << 20
"""Of samples that a rank keeps from one evaluation to the next."""


@dataclass(frozen=True)
class HeldoutLoss:
    """What an evaluation found."""

    loss: float
    """Nats a token."""
    tokens: int
    by_group: dict[str, dict[str, float]]
    """"source/lang" -> {loss, tokens, bits_per_byte}; bits_per_byte only where the bytes are known."""
    bits_per_byte: float | None
    seconds: float


class Heldout:
    """The held-out samples of a run, and which of them each evaluation uses.

    The store must be whole before training starts. With `max_samples`, the samples are spread evenly over it, so every
    source is seen, and are the same each time.
    `byte_count(ids)` gives the UTF-8 bytes that target ids stand for; without it there are no bits per byte.
    """

    def __init__(
        self,
        uri: str,
        *,
        max_samples: int | None,
        micro_batch_size: int,
        cross_document_targets: bool = False,
        byte_count: Callable[[np.ndarray], int] | None = None,
    ) -> None:
        self.uri, self.size, self.max_samples = uri, micro_batch_size, max_samples
        self.cross = cross_document_targets
        self.byte_count = byte_count
        self._bytes: np.ndarray | None = None
        self.store = TokenStore(uri, ranged=True)
        self.plan: HeldoutPlan | None = None
        self._kept: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}
        self._kept_bytes = 0

    def load(self) -> None:
        """Choose the samples; does nothing the second time. Collective: rank 0 reads the store's cards, for all."""
        if self.plan is not None:
            return
        alone = not dist.is_initialized()
        plan = plan_samples(self.store, self.max_samples) if alone or dist.get_rank() == 0 else None
        self.plan = plan if alone else comm.broadcast_object(plan)
        assert self.plan is not None
        self.store.places = self.plan.places

    def __len__(self) -> int:
        return 0 if self.plan is None else int(self.plan.row.size)

    def batches(self, rank: int, ranks: int) -> Iterator[tuple[int, MicroBatch | None]]:
        """(group, micro-batch) for one of so many data ranks; every rank gets equally many, None where it has no
        samples left, because under ZeRO 3 all ranks must run each forward pass together. A micro-batch is of one group.
        """
        assert self.plan is not None, "load() comes first"
        chunks: list[tuple[int, np.ndarray]] = []
        for group in range(len(self.plan.groups)):
            members = np.flatnonzero(self.plan.group == group)
            chunks += [(group, members[at : at + self.size]) for at in range(0, members.size, self.size)]
        own = chunks[rank::ranks]
        if own:
            self.store.most = self.plan.most(np.concatenate([members for _, members in own]), _KEPT_BYTES)
        self._read_together([members for _, members in own])
        for turn in range(math.ceil(len(chunks) / ranks)):
            if turn >= len(own):
                yield 0, None
                continue
            group, members = own[turn]
            tokens, segments = self._read(members)
            rows = {"tokens": tokens, "segments": segments, "sample_index": members}
            yield group, micro_batch(rows, cross_document_targets=self.cross)

    def evaluate(self, engine: TrainEngine, device: torch.device) -> HeldoutLoss | None:
        """Collective. The same figures on every rank; None if nothing is held out."""
        self.load()
        if not len(self):
            return None
        started = time.perf_counter()
        topology = engine.topology
        assert self.plan is not None
        sums = np.zeros((len(self.plan.groups), 3))
        count_bytes = self._bytes is None and self.byte_count is not None
        turns = self.batches(topology.data_rank, topology.data_size)
        while chunk := list(itertools.islice(turns, _TOGETHER)):
            losses = engine.evaluate([micro or self._filler() for _, micro in chunk])
            if not topology.leads_replica:
                continue
            for (group, micro), loss in zip(chunk, losses, strict=True):
                if micro is None:
                    continue
                sums[group, :2] += loss, micro.tokens
                if count_bytes and self.byte_count is not None:
                    sums[group, 2] += self.byte_count(micro.targets_BS[micro.valid_BS].numpy())
        total = np.array(comm.all_reduce_floats(sums.ravel().tolist(), device)).reshape(sums.shape)
        if count_bytes:
            self._bytes = total[:, 2]
        return self._summary(total, time.perf_counter() - started)

    def _read_together(self, chunks: list[np.ndarray]) -> None:
        """Read those of the first micro-batches that fit what is kept, by few requests instead of one for each."""
        if not chunks or storage.is_local(self.uri) or tuple(chunks[0].tolist()) in self._kept:
            return
        first = self._read(chunks[0])
        room = _KEPT_BYTES // max(1, sum(a.nbytes for a in first))
        later = chunks[1:room]
        if not later:
            return
        every = np.concatenate(later)
        assert self.plan is not None
        tokens, segments = self.store.read(self.plan.shard[every], self.plan.row[every])
        self._kept_bytes += tokens.nbytes + segments.nbytes
        at = 0
        for members in later:
            here = slice(at, at + members.size)
            self._kept[tuple(members.tolist())] = tokens[here], segments[here]
            at += members.size

    def _read(self, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens and segments of some of the samples; those of the first evaluation are kept for the next, within a
        bound.
        """
        assert self.plan is not None
        key = tuple(members.tolist())
        if key not in self._kept:
            found = self.store.read(self.plan.shard[members], self.plan.row[members])
            self._kept_bytes += sum(a.nbytes for a in found)
            if self._kept_bytes > _KEPT_BYTES:
                return found
            self._kept[key] = found
        return self._kept[key]

    def _filler(self) -> MicroBatch:
        tokens, segments = self._read(np.zeros(1, np.int64))
        return micro_batch({"tokens": tokens, "segments": segments, "sample_index": np.zeros(1, np.int64)})

    def _summary(self, total: np.ndarray, seconds: float) -> HeldoutLoss:
        by_group: dict[str, dict[str, float]] = {}
        assert self.plan is not None
        for i, name in enumerate(self.plan.groups):
            loss, tokens = float(total[i, 0]), float(total[i, 1])
            entry: dict[str, Any] = {"loss": loss / max(tokens, 1), "tokens": int(tokens)}
            if self._bytes is not None and self._bytes[i]:
                entry["bits_per_byte"] = loss / math.log(2) / float(self._bytes[i])
            by_group[name] = entry
        loss, tokens = total[:, 0].sum(), total[:, 1].sum()
        known = float(self._bytes.sum()) if self._bytes is not None else 0.0
        return HeldoutLoss(
            loss=float(loss / max(tokens, 1)),
            tokens=int(tokens),
            by_group=by_group,
            bits_per_byte=float(loss / math.log(2) / known) if known else None,
            seconds=seconds,
        )
