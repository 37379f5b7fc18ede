"""Percentiles of the perplexity of a run's own documents, by group; see `raypt.curation.percentiles`.

A perplexity is counted by the upper 20 bits of its float32, with 11 bits of the fraction: 1 part in 2,048.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raypt.curation import percentiles
from raypt.curation.base import Attributes
from raypt.curation.percentiles import Counts
from raypt.curation.perplexity.config import Perplexity, RunPercentiles

log = logging.getLogger("raypt")

METRIC = "per_token"
BUCKETS = ("head", "middle", "tail")
_DROPPED_BITS = 12


def bins(values: np.ndarray) -> np.ndarray:
    """int64[n] of perplexities (>= 0, infinity included), ascending with them; -1 for NaN."""
    with np.errstate(over="ignore"):
        single = np.nan_to_num(values, nan=0.0, posinf=np.inf).astype(np.float32)
    at = (single.view(np.uint32) >> _DROPPED_BITS).astype(np.int64)
    return np.where(np.isnan(values), -1, at)


def value_of(at: int) -> float:
    """The smallest perplexity of a bin."""
    return float(np.array(at << _DROPPED_BITS, np.uint32).view(np.float32))


@dataclass(frozen=True)
class Settled:
    """What was settled for the run; a group that is not there was too small."""

    within: tuple[str, ...]
    edges: dict[str, list[int]]
    """Group -> bins: the lowest and the highest that are kept, the lowest of middle and of tail."""

    def below(self, attributes: Attributes) -> np.ndarray:
        """bool[n]: whose perplexity is below the lower percentile of its group."""
        at, edge = self._at(attributes, 0)
        return (edge >= 0) & (at >= 0) & (at < edge)

    def above(self, attributes: Attributes) -> np.ndarray:
        """bool[n]: whose perplexity is above the upper percentile of its group."""
        at, edge = self._at(attributes, 1)
        return (edge >= 0) & (at > edge)

    def bucket(self, attributes: Attributes) -> pa.Array:
        """string[n]: head, middle or tail; null for what is not measured and for small groups."""
        at, middle = self._at(attributes, 2)
        _, tail = self._at(attributes, 3)
        which = (at >= middle).astype(np.int64) + (at >= tail)
        return pa.array(BUCKETS, pa.string()).take(pa.array(which, mask=(middle < 0) | (at < 0)))

    def _at(self, attributes: Attributes, edge: int) -> tuple[np.ndarray, np.ndarray]:
        edges = {group: found[edge] for group, found in self.edges.items()}
        return bins(attributes.metric(METRIC)), percentiles.by_document(attributes, self.within, edges, -1)


def settle(counts: Counts, asked: RunPercentiles) -> Settled:
    """Of the counts of all tagged documents: at most the asked share of a group is beyond a bound, or in the head."""
    by_group = counts.get(METRIC, {})
    enough = {g: found for g, found in sorted(by_group.items()) if sum(found.values()) >= asked.min_documents}
    if not by_group:
        log.warning(
            "curation.perplexity.percentiles: no document was measured, so none is dropped and none has a bucket: no "
            "model is of a language of theirs (curation.perplexity.reference or models; curation.language)"
        )
    if small := percentiles.few(by_group, asked.min_documents):
        log.warning(
            "curation.perplexity.percentiles: fewer measured documents than min_documents (%d) in %s: these have no "
            "percentiles, and pass",
            asked.min_documents,
            small,
        )
    head, middle = asked.buckets or (0.0, 0.0)
    edges = {
        group: [
            percentiles.first_above(found, asked.min or 0.0),
            percentiles.last_below(found, 100.0 if asked.max is None else asked.max),
            percentiles.first_above(found, head),
            percentiles.first_above(found, middle),
        ]
        for group, found in enough.items()
    }
    return Settled(asked.within, edges)


def settle_run(tagged: Sequence[str], stage: str, settings: Perplexity) -> Settled | None:
    """The `Settled` of a stage over the tagged shards at these URIs; None if it asks for no percentile."""
    asked = settings.percentiles
    if not asked.asked:
        return None
    return settle(percentiles.count_run(tagged, stage, {METRIC: asked.within}, bins), asked)
