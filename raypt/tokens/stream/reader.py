"""Samples by their global index, from the token store, without Ray: the clock and the store put together.

Works while the store is still being written: it waits for a shard that is not there yet.
"""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raypt import storage
from raypt.artefact import Card, read_card
from raypt.collection import read_joint
from raypt.errors import UserError
from raypt.tokens.store import files as store
from raypt.tokens.store.files import collection
from raypt.tokens.stream.blocks import Layout
from raypt.tokens.stream.bookmark import open_at_bookmark
from raypt.tokens.stream.clock import Samples
from raypt.tokens.stream.spec import StreamSpec

FAILURE_FILE = "failed.json"
_POLL_S = 0.1
_REMOTE_FIRST_POLL_S, _REMOTE_POLL_S = 0.3, 2.0
_REMOTE_FAILURE_S = 5.0
"""Between two looks whether tokenizing has failed, while a shard is waited for."""
_MAX_OPEN = 4096

Batch = dict[str, npt.NDArray[Any]]
"""sample_index int64[B], tokens [B, S + 1], segments [B, S + 1] (0 = padding, from 1 = document within the sample)."""


@dataclass(frozen=True)
class Awaited:
    """Shards that a reader had to wait for since it began."""

    seconds: float = 0.0
    shard: int = -1
    """The last one; -1 = none."""
    source: str = ""
    """The source whose samples of it were due."""
    tokens_per_s: float = 0.0
    """How fast the task that made it was."""


class StoreRows:
    """Rows by (shard, source), from the shards' ledgers; waits for shards that are not tokenized yet.

    Raises UserError if tokenization has failed, or if a shard has not appeared after `timeout_s`.
    """

    def __init__(
        self, store_uri: str, *, timeout_s: float, together: Mapping[int, int] | None = None, paced: bool = True
    ) -> None:
        """`together`: see StreamSpec. `paced`: whether who makes the shards wants to know which are wanted."""
        self.store_uri = store_uri
        self._timeout_s, self._together, self._paced = timeout_s, together or {}, paced
        self._rows: dict[int, dict[str, tuple[int, int]]] = {}
        self.awaited = Awaited()

    def _sections(self, shard: int, source: str) -> dict[str, tuple[int, int]]:
        if shard not in self._rows and not self._rows:
            # A finished store has one file with all sections: one read instead of one a shard.
            for number, card in collection(self.store_uri).load().items():
                self._add(number, card.account["sections"])
        if shard not in self._rows:
            cards, waited = self._await(shard)
            if waited:
                account = cards[shard].account
                rate = account["packed_tokens"] / max(account.get("seconds", 0.0), 1e-3)
                self.awaited = Awaited(self.awaited.seconds + waited, shard, source, rate)
            for number, card in cards.items():
                self._add(number, card.account["sections"])
        return self._rows[shard]

    def _add(self, shard: int, sections: list[dict[str, Any]]) -> None:
        self._rows[shard] = {s["source"]: (s["first_row"], s["rows"]) for s in sections}

    def _await(self, shard: int) -> tuple[dict[int, Card], float]:
        """The card of a shard, once it is whole, with those that are in its file, and the seconds that were waited for
        it, 0 if it was.
        """
        first = self._together.get(shard)
        uri = collection(self.store_uri).card_uri(shard) if first is None else store.joint_uri(self.store_uri, first)
        failure, asked, local = storage.join(self.store_uri, FAILURE_FILE), 0.0, storage.is_local(self.store_uri)
        if self._paced:
            # Tells the producer how far the stream has come.
            storage.write_bytes(store.wanted_uri(self.store_uri, shard if first is None else first), b"")
        start, pause, waited = time.monotonic(), _POLL_S if local else _REMOTE_FIRST_POLL_S, 0.0
        while shard not in (cards := _cards_at(uri, shard, alone=first is None)):
            if local or waited >= asked + _REMOTE_FAILURE_S:
                asked = waited
                if (error := storage.read_if_there(failure)) is not None:
                    raise UserError(f"tokenization failed: {json.loads(error)['error']}")
            if time.monotonic() - start > self._timeout_s:
                raise UserError(
                    f"{uri}: this shard of the token store was not tokenized within {self._timeout_s:.0f} s. Is "
                    "tokenization running, and does the cluster have a free CPU for it (tokens.stream.tokenizer_cpus)?"
                )
            time.sleep(pause)
            if not local:
                pause = min(pause * 1.5, _REMOTE_POLL_S)
            waited = time.monotonic() - start
        return cards, waited

    def __call__(self, shard: int, source: str) -> int:
        return self._sections(shard, source).get(source, (0, 0))[1]

    def first_row(self, shard: int, source: str) -> int:
        return self._sections(shard, source)[source][0]


def rows_of(spec: StreamSpec) -> StoreRows:
    """The rows of a stream's store."""
    stream = spec.config
    paced = stream.ahead_shards is not None
    return StoreRows(spec.store_uri, timeout_s=stream.stall_timeout_s, together=spec.together, paced=paced)


def _cards_at(uri: str, shard: int, *, alone: bool) -> dict[int, Card]:
    if not alone:
        return read_joint(uri)
    card = read_card(uri)
    return {} if card is None else {shard: card}


class SampleReader:
    """`read(first, end)`: the samples [first, end) of the run."""

    def __init__(self, spec: StreamSpec) -> None:
        self.spec = spec
        self._rows = rows_of(spec)
        self.clock = spec.clock(self._rows)
        open_at_bookmark(spec, self.clock)
        # The shards of the windows under way; at the edge of two windows, of both.
        windows = sum(min(2 * (spec.config.window_shards or len(s.shards)), len(s.shards)) for s in spec.sources)
        self._store = store.TokenStore(spec.store_uri, max_open=min(max(windows, 16), _MAX_OPEN))
        self._names = [s.name for s in spec.sources]

    @property
    def awaited(self) -> Awaited:
        """Waiting for shards that were not tokenized yet, so far."""
        return self._rows.awaited

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

    def turn(self, at: int, start: int, layout: Layout) -> Samples:
        """The samples of the turn that begins at `at`, of a stream that began at `start`.

        A stream whose sources all end stops at its last whole global batch: the samples after it (fewer than a batch)
        are not trained on, on any rank. So the last turn may be shorter, or empty.
        """
        size = self.spec.global_batch
        whole = start + -(-(at + layout.turn - start) // size) * size
        samples = self.resolve(at, whole)
        end = start + (at + len(samples) - start) // size * size
        return samples.slice(0, min(max(end - at, 0), layout.turn))

    def blocks(self, first: int, end: int, start: int, ranks: int) -> Iterator[Batch]:
        """The blocks of samples [first, end), both where turns of the stream from `start` begin: those of rank 0, 1,
        ... n - 1, and so on.
        """
        layout = self.spec.blocks.layout(ranks)
        for at in range(first, end, layout.turn):
            samples = self.turn(at, start, layout)
            if not len(samples):
                return
            for rank in range(ranks):
                yield self.fetch(samples.take(layout.share(rank, len(samples))))

    def rank_blocks(self, rank: int, ranks: int, start: int = 0) -> Iterator[Batch]:
        """What rank `rank` of `ranks` receives from sample `start` on. The stream without Ray."""
        layout = self.spec.blocks.layout(ranks)
        for at in range(start, self.spec.samples, layout.turn):
            samples = self.turn(at, start, layout)
            if not len(samples):
                return
            yield self.fetch(samples.take(layout.share(rank, len(samples))))
