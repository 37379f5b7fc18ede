"""Percentiles of what classifiers say of a run's own documents; see `raypt.curation.percentiles`.

A probability is counted in one of 28,673 bins: the positions of float16, from 0 upwards for the lower half of [0, 1]
and from 1 downwards for the upper, since classifiers crowd both ends.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raypt.artefact import hash_of
from raypt.curation import percentiles
from raypt.curation.base import Attributes
from raypt.curation.classify.config import PERCENTILE, Classify, Decision, Ranking, joined
from raypt.curation.percentiles import ALL, ByGroup, Counts, Steps, keyed

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
    """What was settled for a stage."""

    lowest: dict[str, dict[str, int]]
    """The lowest bin kept, by metric and group (`ALL`: the whole run)."""
    steps: dict[str, dict[str, Steps]] = field(default_factory=dict)
    """Metric as `_ranked` names it -> group (`ALL`: the whole run) -> from which bin on which percentile."""

    def identity(self) -> dict[str, Any]:
        """As JSON: what decisions depend on."""
        return {"lowest": self.lowest, **({"steps": hash_of(self.steps)} if self.steps else {})}

    def metric(self, name: str, attributes: Attributes, settings: Classify) -> np.ndarray:
        """float32[n] of a settled metric of the stage, NaN where it does not apply."""
        if name not in settings.ensembles:
            metric = name.removesuffix(PERCENTILE)
            return self._percentile(metric, attributes, settings.percentiles[metric])
        ensemble = settings.ensembles[name]
        members = [self._percentile(metric, attributes, ensemble) for metric in ensemble.members]
        return joined(np.stack(members), mean=ensemble.how == "percentile_mean")

    def _percentile(self, metric: str, attributes: Attributes, ranking: Ranking) -> np.ndarray:
        steps = self.steps[_ranked(metric, ranking)]
        return percentiles.stands(attributes, ranking.within, bins(attributes.metric(metric)), steps, steps[ALL])

    def below(self, metric: str, attributes: Attributes, within: Sequence[str]) -> np.ndarray:
        """bool[n]: which documents are below the percentile of their group."""
        lowest = self.lowest[metric]
        at = bins(attributes.metric(metric))
        return (at >= 0) & (at < percentiles.by_document(attributes, within, lowest, lowest[ALL]))


def _ranked(metric: str, ranking: Ranking) -> str:
    """The name of a metric's percentiles among those documents."""
    return f"{keyed(metric, ranking.within)} {ranking.min_documents}"


def rankings(settings: Classify) -> list[tuple[str, Ranking]]:
    """Every metric whose percentiles documents get, and among which documents."""
    asked = list(settings.percentiles.items())
    return asked + [(m, e) for e in settings.ensembles.values() if e.settled for m in e.members]


def settle(
    counts: Counts, decisions: Mapping[str, Decision], ranked: Sequence[tuple[str, Ranking]] = ()
) -> Percentiles:
    """The lowest bins kept: at most the asked share of a group is below; and the percentiles of those `ranked`."""
    lowest: dict[str, dict[str, int]] = {}
    for metric, decision in decisions.items():
        assert decision.percentile is not None
        by_group = counts.get(keyed(metric, decision.within), {})
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
        found = _found(by_group, decision.min_documents)
        lowest[metric] = {name: percentiles.first_above(f, decision.percentile) for name, f in found.items()}
    steps: dict[str, dict[str, Steps]] = {}
    for metric, ranking in ranked:
        found = _found(counts.get(keyed(metric, ranking.within), {}), ranking.min_documents)
        steps[_ranked(metric, ranking)] = {name: percentiles.steps(f) for name, f in sorted(found.items())}
    return Percentiles(lowest, steps)


def _found(by_group: ByGroup, min_documents: int) -> ByGroup:
    """The counts of the whole run, and of the groups that are big enough."""
    own = {group: f for group, f in by_group.items() if group and sum(f.values()) >= min_documents}
    return {ALL: percentiles.whole(by_group), **own}


def asked(settings: Classify) -> bool:
    """Whether a stage wants to know a percentile over the tagged shards of the run."""
    return bool(rankings(settings)) or any(d.percentile is not None for d in settings.decisions.values())


def settle_run(tagged: Sequence[str], stage: str, settings: Classify) -> Percentiles | None:
    """The `Percentiles` of a stage over the tagged shards at these URIs; None if it asks for none."""
    if not asked(settings):
        return None
    decisions = {name: d for name, d in settings.decisions.items() if d.percentile is not None}
    ranked = rankings(settings)
    within = {keyed(metric, one.within): one.within for metric, one in (*decisions.items(), *ranked)}
    return settle(percentiles.count_run(tagged, stage, within, bins), decisions, ranked)
