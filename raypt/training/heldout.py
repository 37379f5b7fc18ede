"""Held-out loss and bits per byte, by source and language, with all ranks sharing the samples."""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raypt.model.batch import MicroBatch, micro_batch
from raypt.parallel import comm
from raypt.parallel.engine import TrainEngine
from raypt.tokens.store.files import TokenStore

_TOGETHER = 16
"""Micro-batches handed to the engine at a time: what is in memory, and enough to fill a pipeline."""


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
        self._loaded = False

    def load(self) -> None:
        """Choose the samples; does nothing the second time."""
        if self._loaded:
            return
        self._loaded = True
        self.store = TokenStore(self.uri)
        sections = [(i, s) for i, s in self.store.sections() if s.rows]
        self.groups = sorted({_group(s.source, s.lang) for _, s in sections})
        group_of = {g: i for i, g in enumerate(self.groups)}
        shard = [np.full(s.rows, i, np.int32) for i, s in sections]
        row = [np.arange(s.first_row, s.first_row + s.rows, dtype=np.int64) for _, s in sections]
        group = [np.full(s.rows, group_of[_group(s.source, s.lang)], np.int64) for _, s in sections]
        self.shard = np.concatenate([np.empty(0, np.int32), *shard])
        self.row = np.concatenate([np.empty(0, np.int64), *row])
        self.group = np.concatenate([np.empty(0, np.int64), *group])
        total = self.row.size
        if self.max_samples is not None and total > self.max_samples:
            pick = (np.arange(self.max_samples) * total) // self.max_samples
            self.shard, self.row, self.group = self.shard[pick], self.row[pick], self.group[pick]

    def __len__(self) -> int:
        return int(self.row.size)

    def batches(self, rank: int, ranks: int) -> Iterator[tuple[int, MicroBatch | None]]:
        """(group, micro-batch) for one of so many data ranks; every rank gets equally many, None where it has no
        samples left, because under ZeRO 3 all ranks must run each forward pass together. A micro-batch is of one group.
        """
        chunks: list[tuple[int, np.ndarray]] = []
        for group in range(len(self.groups)):
            members = np.flatnonzero(self.group == group)
            chunks += [(group, members[at : at + self.size]) for at in range(0, members.size, self.size)]
        for turn in range(math.ceil(len(chunks) / ranks)):
            at = turn * ranks + rank
            if at >= len(chunks):
                yield 0, None
                continue
            group, members = chunks[at]
            tokens, segments = self.store.read(self.shard[members], self.row[members])
            rows = {"tokens": tokens, "segments": segments, "sample_index": members}
            yield group, micro_batch(rows, cross_document_targets=self.cross)

    def evaluate(self, engine: TrainEngine, device: torch.device) -> HeldoutLoss | None:
        """Collective. The same figures on every rank; None if nothing is held out."""
        self.load()
        if not len(self):
            return None
        started = time.perf_counter()
        topology = engine.topology
        sums = np.zeros((len(self.groups), 3))
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

    def _filler(self) -> MicroBatch:
        tokens, segments = self.store.read(self.shard[:1], self.row[:1])
        return micro_batch({"tokens": tokens, "segments": segments, "sample_index": np.zeros(1, np.int64)})

    def _summary(self, total: np.ndarray, seconds: float) -> HeldoutLoss:
        by_group: dict[str, dict[str, float]] = {}
        for i, name in enumerate(self.groups):
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


def _group(source: str, lang: str | None) -> str:
    return source if lang is None else f"{source}/{lang}"
