"""Samples by their global index, from the token store, without Ray: the clock and the store put together.

Works while the store is still being written: it waits for a shard that is not there yet.
"""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from raypt import storage
from raypt.errors import UserError
from raypt.tokens import store
from raypt.tokens.clock import Samples
from raypt.tokens.plan import StreamSpec

FAILURE_FILE = "failed.json"
INDEX_FILE = "index.json"
_POLL_S = 0.1
_MAX_OPEN = 4096

Batch = dict[str, npt.NDArray[Any]]
"""sample_index int64[B], tokens [B, S + 1], segments [B, S + 1] (0 = padding, from 1 = document within the sample)."""


class StoreRows:
    """Rows by (shard, source), from the shards' ledgers; waits for shards that are not tokenized yet.

    Raises UserError if tokenization has failed, or if a shard has not appeared after `timeout_s`.
    """

    def __init__(self, store_uri: str, *, timeout_s: float) -> None:
        self.store_uri = store_uri
        self._timeout_s = timeout_s
        self._rows: dict[int, dict[str, tuple[int, int]]] = {}
        self.waited_s = 0.0
        """Seconds spent waiting for shards so far."""

    def _sections(self, shard: int) -> dict[str, tuple[int, int]]:
        if shard not in self._rows and not self._rows:
            self._load_index()
        if shard not in self._rows:
            self._mark_wanted(shard)
            self._wait(shard)
            self._add(shard, storage.read_json(store.ledger_uri(self.store_uri, shard))["sections"])
        return self._rows[shard]

    def _add(self, shard: int, sections: list[dict[str, Any]]) -> None:
        self._rows[shard] = {s["source"]: (s["first_row"], s["rows"]) for s in sections}

    def _load_index(self) -> None:
        """A finished store has one file with all sections: one read instead of one a shard."""
        uri = storage.join(self.store_uri, INDEX_FILE)
        if storage.exists(uri):
            for shard, sections in storage.read_json(uri).items():
                self._add(int(shard), sections)

    def _mark_wanted(self, shard: int) -> None:
        """Tell the producer how far the stream has come."""
        uri = store.wanted_uri(self.store_uri, shard)
        if not storage.exists(uri):
            storage.write_bytes(uri, b"")

    def _wait(self, shard: int) -> None:
        uri, failure = store.ledger_uri(self.store_uri, shard), storage.join(self.store_uri, FAILURE_FILE)
        start = time.monotonic()
        while not storage.exists(uri):
            if storage.exists(failure):
                raise UserError(f"tokenization failed: {storage.read_json(failure)['error']}")
            if time.monotonic() - start > self._timeout_s:
                raise UserError(
                    f"{uri}: this shard of the token store was not tokenized within {self._timeout_s:.0f} s. Is "
                    "tokenization running, and does the cluster have a free CPU for it (tokens.stream.tokenizer_cpus)?"
                )
            time.sleep(_POLL_S)
        self.waited_s += time.monotonic() - start

    def __call__(self, shard: int, source: str) -> int:
        return self._sections(shard).get(source, (0, 0))[1]

    def first_row(self, shard: int, source: str) -> int:
        return self._sections(shard)[source][0]


class SampleReader:
    """`read(first, end)`: the samples [first, end) of the run."""

    def __init__(self, spec: StreamSpec) -> None:
        self.spec = spec
        self._rows = StoreRows(spec.store_uri, timeout_s=spec.config.stall_timeout_s)
        self.clock = spec.clock(self._rows)
        # The shards of the windows under way; at the edge of two windows, of both.
        windows = sum(min(2 * (spec.config.window_shards or len(s.shards)), len(s.shards)) for s in spec.sources)
        self._store = store.TokenStore(spec.store_uri, max_open=min(max(windows, 16), _MAX_OPEN))
        self._names = [s.name for s in spec.sources]
        self._batch: Samples | None = None

    @property
    def waited_s(self) -> float:
        """Seconds spent waiting for shards that were not tokenized yet."""
        return self._rows.waited_s

    def resolve(self, first: int, end: int) -> Samples:
        return self.clock.resolve(first, min(end, self.spec.samples))

    def fetch(self, samples: Samples) -> Batch:
        """Read resolved samples from the store; each row is verified."""
        row = samples.row.copy()
        for k in np.unique(samples.source):
            for shard in np.unique(samples.shard[samples.source == k]):
                mask = (samples.source == k) & (samples.shard == shard)
                row[mask] += self._rows.first_row(int(shard), self._names[k])
        tokens, segments = self._store.read(samples.shard, row)
        if tokens.shape[1] != self.spec.width:
            raise UserError(f"{self.spec.store_uri}: samples of {tokens.shape[1]} tokens, expected {self.spec.width}")
        return {"sample_index": samples.sample_index, "tokens": tokens, "segments": segments}

    def blocks(self, first: int, end: int, start: int) -> Iterator[Batch]:
        """The blocks of samples [first, end), both at block boundaries counted from `start`.

        A stream whose sources all end stops at its last whole global batch: the samples after it (fewer than a batch)
        are not trained on, on any rank.
        """
        rows = self.spec.block_rows
        for at in range(first, end, rows):
            batch = self._batch_of(at, start)
            if batch is None:
                return
            offset = at - int(batch.sample_index[0])
            yield self.fetch(batch.slice(offset, offset + rows))

    def _batch_of(self, sample: int, start: int) -> Samples | None:
        """The whole global batch that holds `sample`, or None if the stream ends within it."""
        size = self.spec.global_batch
        begin = start + (sample - start) // size * size
        if self._batch is None or int(self._batch.sample_index[0]) != begin:
            batch = self.resolve(begin, begin + size)
            self._batch = batch if len(batch) == size else None
        return self._batch

    def rank_blocks(self, rank: int, ranks: int, start: int = 0) -> Iterator[Batch]:
        """What rank `rank` of `ranks` receives from sample `start` on: every ranks-th block. The stream without Ray."""
        rows = self.spec.block_rows
        for first in range(start + rank * rows, self.spec.samples, ranks * rows):
            if self._batch_of(first, start) is None:
                return
            yield from self.blocks(first, first + rows, start)
