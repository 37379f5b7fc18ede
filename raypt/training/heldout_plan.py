"""Which held-out samples a run is evaluated on: chosen from the store's cards, before any shard is opened."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from raypt.tokens.store.files import TokenStore


@dataclass(frozen=True)
class HeldoutPlan:
    """The samples of every evaluation of a run, in their order."""

    groups: tuple[str, ...]
    """ "source/lang", sorted."""
    shard: np.ndarray
    """int32[n]"""
    row: np.ndarray
    """int64[n], in the shard."""
    group: np.ndarray
    """int64[n], into `groups`."""
    places: Mapping[int, str]
    """Of shards that lie in packs: `TokenStore.places`."""
    extent: Mapping[int, tuple[int, int]]
    """Rows and bytes of the shards that some are chosen of."""

    def most(self, chosen: np.ndarray, most_bytes: int) -> frozenset[int]:
        """The shards of which some of the samples, by their place in the plan, are more than half; none if those shards
        have more than `most_bytes`.
        """
        shards, counts = np.unique(self.shard[chosen], return_counts=True)
        counted = zip(shards.tolist(), counts.tolist(), strict=True)
        found = frozenset(shard for shard, n in counted if 2 * n > self.extent[shard][0])
        return found if sum(self.extent[shard][1] for shard in found) <= most_bytes else frozenset()


def plan_samples(store: TokenStore, max_samples: int | None) -> HeldoutPlan:
    """All samples, or `max_samples` spread evenly over the store, so that every source is seen.

    One request where the store's cards are in one file; memory by the number of sections, and of what is chosen.
    """
    sections = [(i, s) for i, s in store.sections() if s.rows]
    names = [s.source if s.lang is None else f"{s.source}/{s.lang}" for _, s in sections]
    groups = sorted(set(names))
    group_of = {name: i for i, name in enumerate(groups)}
    ends = np.cumsum([s.rows for _, s in sections], dtype=np.int64)
    total = int(ends[-1]) if sections else 0
    chosen = np.arange(total if max_samples is None else min(total, max_samples), dtype=np.int64)
    if max_samples is not None and total > max_samples:
        chosen = chosen * total // max_samples
    section = np.searchsorted(ends, chosen, side="right")
    before = np.concatenate([[0], ends[:-1]]) if sections else np.zeros(0, np.int64)
    used = {sections[i][0] for i in np.unique(section).tolist()}
    first = np.array([s.first_row for _, s in sections], np.int64)
    rows = dict.fromkeys(sorted(used), 0)
    for shard, of in sections:
        if shard in rows:
            rows[shard] += of.rows
    return HeldoutPlan(
        tuple(groups),
        np.array([i for i, _ in sections], np.int32)[section],
        first[section] + chosen - before[section],
        np.array([group_of[name] for name in names], np.int64)[section],
        {shard: uri for shard, uri in store.places.items() if shard in used},
        {shard: (n, store.sizes[shard]) for shard, n in rows.items()},
    )
