"""Percentiles of what classifiers say of a run's own documents; see `raypt.curation.percentiles`.

A probability is counted in one of 28,673 bins: the positions of float16, from 0 upwards for the lower half of [0, 1]
and from 1 downwards for the upper, since classifiers crowd both ends.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raypt.curation import percentiles
from raypt.curation.base import Attributes
from raypt.curation.classify.config import Classify, Decision
from raypt.curation.percentiles import ALL, Counts

log = logging.getLogger("raypt")

_HALF = int(np.array(0.5, np.float16).view(np.uint16))


def bins(values: np.ndarray) -> np.ndarray:
    """int64[n] of probabilities, ascending with them; -1 for NaN."""
    p = np.clip(np.nan_to_num(values, nan=0.0), 0.0, 1.0)
    low = p.astype(np.float16).view(np.uint16).astype(np.int64)
    high = 2 * _HALF - (1.0 - p).astype(np.float16).view(np.uint16).astype(np.int64)
    return np.where(np.isnan(values), -1, np.where(p <= 0.5, low, high))


@dataclass(frozen=True)
class Percentiles:
    """What was settled for a stage: the lowest bin kept, by metric and group (`ALL`: the whole run)."""

    lowest: dict[str, dict[str, int]]

    def below(self, metric: str, attributes: Attributes, within: Sequence[str]) -> np.ndarray:
        """bool[n]: which documents are below the percentile of their group."""
        lowest = self.lowest[metric]
        at = bins(attributes.metric(metric))
        return (at >= 0) & (at < percentiles.by_document(attributes, within, lowest, lowest[ALL]))


def settle(counts: Counts, decisions: Mapping[str, Decision]) -> Percentiles:
    """The lowest bins kept: at most the asked share of a group is below."""
    out: dict[str, dict[str, int]] = {}
    for metric, decision in decisions.items():
        assert decision.percentile is not None
        by_group = counts.get(metric, {})
        if not by_group:
            log.warning(
                "curation.classify.decisions.%s: no document was measured, so its percentile drops none", metric
            )
        elif small := percentiles.few(by_group, decision.min_documents) if decision.within else None:
            log.warning(
                "curation.classify.decisions.%s: fewer measured documents than min_documents (%d) in %s: the "
                "percentile of the whole run decides there",
                metric,
                decision.min_documents,
                small,
            )
        own = {group: f for group, f in by_group.items() if group and sum(f.values()) >= decision.min_documents}
        found = {ALL: percentiles.whole(by_group), **own}
        out[metric] = {name: percentiles.first_above(f, decision.percentile) for name, f in found.items()}
    return Percentiles(out)


def settle_run(tagged: Sequence[str], stage: str, settings: Classify) -> Percentiles | None:
    """The `Percentiles` of a stage over the tagged shards at these URIs; None if it asks for none."""
    decisions = {name: d for name, d in settings.decisions.items() if d.percentile is not None}
    if not decisions:
        return None
    within = {name: d.within for name, d in decisions.items()}
    return settle(percentiles.count_run(tagged, stage, within, bins), decisions)
