"""The sample clock: global sample index -> (token-store shard, row), a pure function of the inputs and the seed.

Batch s of a run is samples [s*G, (s+1)*G), whatever the number of workers. The clock composes three pure functions:

1. `mixture`: sample g is the j-th sample of source k;
2. epochs: source k's j-th sample lies in its pass e (over all its shards, in a new seeded order each pass);
3. windows: within a pass, `window_shards` consecutive shards form a window whose rows are fully permuted.

The rows of a shard are known once it is tokenized. The clock asks for them only as far as it must, so it runs while
tokenization is still going on and gives the same order as afterwards.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from raypt.errors import UserError
from raypt.tokens.order import key_of, permute
from raypt.tokens.stream.mixture import UNLIMITED, Mixture, Phase


@dataclass(frozen=True)
class ClockSource:
    """One source of the mixture: the shards that hold samples of it, and where its stream ends."""

    name: str
    shards: tuple[int, ...]
    max_epochs: float | None = None
    """Passes over the source before it leaves the mixture; fractions are allowed; None = no limit."""
    max_samples: int | None = None
    """Samples before it leaves the mixture; None = no limit."""


RowsOf = Callable[[int, str], int]
"""(shard, source name) -> rows of that source in that shard. May wait until the shard is tokenized."""


@dataclass(frozen=True)
class Samples:
    """Where a run of samples lies: arrays of one length, in the order of the stream."""

    sample_index: npt.NDArray[np.int64]
    source: npt.NDArray[np.int16]
    epoch: npt.NDArray[np.int32]
    shard: npt.NDArray[np.int32]
    row: npt.NDArray[np.int64]
    """Row within the source's section of the shard."""

    def __len__(self) -> int:
        return self.sample_index.size

    def slice(self, first: int, end: int) -> "Samples":
        return Samples(*(getattr(self, f.name)[first:end] for f in fields(self)))

    def take(self, index: npt.NDArray[np.int64]) -> "Samples":
        return Samples(*(getattr(self, f.name)[index] for f in fields(self)))


@dataclass
class _Pass:
    """One pass over a source: its shards in order, and the cumulative rows of those whose rows are known."""

    shards: npt.NDArray[np.int64]
    cumulative: list[int] = field(default_factory=lambda: [0])

    @property
    def complete(self) -> bool:
        return len(self.cumulative) == self.shards.size + 1


class SourceOrder:
    """The endless stream of one source: ordinal -> (epoch, shard, row)."""

    def __init__(self, source: ClockSource, rows_of: RowsOf, *, seed: int, window_shards: int | None) -> None:
        if not source.shards:
            raise UserError(f"tokens: source {source.name!r} has no documents; remove it from the mixture")
        self.source = source
        self._rows_of = rows_of
        self._seed = seed
        self.window = window_shards or len(source.shards)
        self._passes: dict[int, _Pass] = {}
        self._total: int | None = None

    def shard_order(self, epoch: int) -> npt.NDArray[np.int64]:
        """The shards of the source in the order in which pass `epoch` reads them."""
        shards = np.asarray(self.source.shards, np.int64)
        return shards[
            permute(np.arange(shards.size), shards.size, key_of("shards", self._seed, self.source.name, epoch))
        ]

    def _pass(self, epoch: int) -> _Pass:
        if epoch not in self._passes:
            if len(self._passes) > 2:
                del self._passes[min(self._passes)]
            self._passes[epoch] = _Pass(self.shard_order(epoch))
        return self._passes[epoch]

    def _extend(self, table: _Pass, rows: int) -> None:
        """Learn the rows of whole windows until `rows` rows are covered or the pass is complete."""
        while table.cumulative[-1] < rows and not table.complete:
            at = len(table.cumulative) - 1
            for shard in table.shards[at : at + self.window]:
                table.cumulative.append(table.cumulative[-1] + self._rows_of(int(shard), self.source.name))

    def rows_per_epoch(self) -> int:
        """Samples in one pass; waits until every shard is tokenized."""
        if self._total is None:
            table = self._pass(0)
            self._extend(table, np.iinfo(np.int64).max)
            self._total = table.cumulative[-1]
            if self._total == 0:
                raise UserError(
                    f"tokens: source {self.source.name!r} has no samples (its documents are empty or all held out)"
                )
        return self._total

    def capacity(self, wanted: int) -> int:
        """How many samples the source gives: at least `wanted`, or the exact number if it ends before."""
        limit = self.source.max_samples
        most, epochs = UNLIMITED if limit is None else limit, self.source.max_epochs
        if epochs is None or most < wanted:
            return most
        if self._total is None:
            sure = min(epochs, 1.0)
            table = self._pass(0)
            self._extend(table, math.ceil(wanted / sure))
            if not table.complete:
                # The whole pass has at least these rows, so the source gives at least this many samples.
                return min(most, int(table.cumulative[-1] * sure))
        return min(most, int(self.rows_per_epoch() * epochs))

    def locate(
        self, ordinals: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """(epoch[n], shard[n], row within the source's section of the shard[n]) of ascending ordinals."""
        epoch = np.zeros(ordinals.size, np.int32)
        shard = np.empty(ordinals.size, np.int32)
        row = np.empty(ordinals.size, np.int64)
        within = ordinals
        if self._total is None:
            first = self._pass(0)
            self._extend(first, int(ordinals[-1]) + 1)
            if int(ordinals[-1]) >= first.cumulative[-1]:
                self.rows_per_epoch()
        if self._total is not None:
            epoch[:], within = ordinals // self._total, ordinals % self._total
        for e in np.unique(epoch):
            mask = epoch == e
            shard[mask], row[mask] = self._locate_in_pass(int(e), within[mask])
        return epoch, shard, row

    def _locate_in_pass(
        self, epoch: int, index: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        table = self._pass(epoch)
        self._extend(table, int(index.max()) + 1)
        cumulative = np.asarray(table.cumulative, np.int64)
        edges = np.append(cumulative[: -1 : self.window], cumulative[-1])
        window = np.searchsorted(edges, index, side="right") - 1
        place = np.empty(index.size, np.int64)
        for w in np.unique(window):
            mask = window == w
            start, size = int(edges[w]), int(edges[w + 1] - edges[w])
            key = key_of("rows", self._seed, self.source.name, epoch, int(w))
            place[mask] = start + permute(index[mask] - start, size, key)
        at = np.searchsorted(cumulative, place, side="right") - 1
        return table.shards[at].astype(np.int32), place - cumulative[at]


class SampleClock:
    """`resolve(first, end)` -> where samples [first, end) of the run lie. Pure: any worker computes any part."""

    def __init__(
        self,
        sources: Sequence[ClockSource],
        phases: Sequence[Phase],
        rows_of: RowsOf,
        *,
        seed: int,
        window_shards: int | None = None,
    ) -> None:
        self.sources = tuple(sources)
        self.orders = [SourceOrder(s, rows_of, seed=seed, window_shards=window_shards) for s in sources]
        limited = any(s.max_epochs is not None or s.max_samples is not None for s in sources)
        self._mixture = Mixture(phases, (lambda k, wanted: self.orders[k].capacity(wanted)) if limited else None)

    def resolve(self, first: int, end: int) -> Samples:
        """Samples [first, end); fewer if the stream ends there (every source has reached its limit)."""
        source, ordinal = self._mixture.draw(first, end)
        n = source.size
        epoch, shard, row = np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.int64)
        for k in np.unique(source):
            mask = source == k
            epoch[mask], shard[mask], row[mask] = self.orders[k].locate(ordinal[mask])
        return Samples(first + np.arange(n, dtype=np.int64), source, epoch, shard, row)

    def bookmark(self, at: int) -> dict[str, Any]:
        """What lets another clock of the same stream go on from sample `at` at once (see Mixture.bookmark)."""
        return self._mixture.bookmark(at)

    def resume(self, bookmark: dict[str, Any]) -> None:
        self._mixture.resume(bookmark)

    def counts(self, at: int) -> list[int]:
        """Samples of each source among the first `at` of the stream."""
        return self._mixture.counts(at)

    def shard_schedule(self, sizes: dict[tuple[int, str], int]) -> list[int]:
        """Every shard once, in about the order in which the stream first needs it.

        `sizes[shard, source]` is any estimate of the samples there (bytes will do). Tokenizing in this order lets
        training start first and stall least; the stream's order does not depend on it.
        """
        shares = self._mixture.first_shares()
        due: dict[int, float] = {}
        for order, share in zip(self.orders, shares, strict=True):
            before = 0
            shards = order.shard_order(0)
            for at in range(0, shards.size, order.window):
                window = [int(s) for s in shards[at : at + order.window]]
                for shard in window:
                    when = before / share if share > 0 else float("inf")
                    due[shard] = min(due.get(shard, float("inf")), when)
                before += sum(sizes.get((shard, order.source.name), 0) for shard in window)
        return sorted(due, key=lambda shard: (due[shard], shard))
