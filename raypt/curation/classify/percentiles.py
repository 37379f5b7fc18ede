"""Percentiles of a run's own documents, by group: one pass over the attributes of the tagged shards.

A probability is counted in one of 28,673 bins: the positions of float16, from 0 upwards for the lower half of [0, 1]
and from 1 downwards for the upper, since classifiers crowd both ends. Counts add up, so the result does not depend on
the order of shards; documents of one bin stay together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt import storage
from raypt.curation.base import Attributes
from raypt.curation.classify.config import Classify, Decision
from raypt.tasks import run_tasks

_HALF = int(np.array(0.5, np.float16).view(np.uint16))
ALL = ""
"""The key of the whole run."""
_SEPARATOR = "\x1f"

Counts = dict[str, dict[str, dict[int, int]]]
"""Metric -> group -> bin -> documents."""


def bins(values: np.ndarray) -> np.ndarray:
    """int64[n] of probabilities, ascending with them; -1 for NaN."""
    p = np.clip(np.nan_to_num(values, nan=0.0), 0.0, 1.0)
    low = p.astype(np.float16).view(np.uint16).astype(np.int64)
    high = 2 * _HALF - (1.0 - p).astype(np.float16).view(np.uint16).astype(np.int64)
    return np.where(np.isnan(values), -1, np.where(p <= 0.5, low, high))


def groups(attributes: Attributes, within: Sequence[str]) -> pa.Array:
    """string[n]: the group of each document; a null is a value of its own."""
    parts = [pc.fill_null(attributes.named(name).cast(pa.string()), "") for name in within]
    return pc.binary_join_element_wise(*parts, "", _SEPARATOR)  # ends in a separator: no group is called ALL


@dataclass(frozen=True)
class Percentiles:
    """What was settled for a stage: the lowest bin kept, by metric and group (`ALL`: the whole run)."""

    lowest: dict[str, dict[str, int]]

    def below(self, metric: str, attributes: Attributes, within: Sequence[str]) -> np.ndarray:
        """bool[n]: which documents are below the percentile of their group."""
        lowest = self.lowest[metric]
        at = bins(attributes.metric(metric))
        bound = np.full(len(attributes), lowest[ALL])
        if within:
            names = groups(attributes, within).dictionary_encode()
            own = np.array([lowest.get(name, lowest[ALL]) for name in names.dictionary.to_pylist()], np.int64)
            bound = own[names.indices.to_numpy(zero_copy_only=False)] if len(attributes) else bound
        return (at >= 0) & (at < bound)


def count(attributes: Attributes, decisions: Mapping[str, Decision]) -> Counts:
    """Documents of a tagged table by metric, group and bin."""
    out: Counts = {}
    for metric, decision in decisions.items():
        at = bins(attributes.metric(metric))
        keys = groups(attributes, decision.within) if decision.within else pa.array([ALL] * len(at), pa.string())
        table = pa.table({"group": keys, "bin": at}).filter(pa.array(at >= 0))
        by_group = out.setdefault(metric, {})
        for row in table.group_by(["group", "bin"]).aggregate([([], "count_all")]).to_pylist():
            by_group.setdefault(row["group"], {})[row["bin"]] = row["count_all"]
    return out


def merge(total: Counts, more: Counts) -> None:
    """Add counts to others."""
    for metric, by_group in more.items():
        for group, found in by_group.items():
            into = total.setdefault(metric, {}).setdefault(group, {})
            for at, n in found.items():
                into[at] = into.get(at, 0) + n


def settle(counts: Counts, decisions: Mapping[str, Decision]) -> Percentiles:
    """The lowest bins kept: at most the asked share of a group is below."""
    out: dict[str, dict[str, int]] = {}
    for metric, decision in decisions.items():
        assert decision.percentile is not None
        by_group = counts.get(metric, {})
        whole: dict[int, int] = {}
        for found in by_group.values():
            for at, n in found.items():
                whole[at] = whole.get(at, 0) + n
        own = {group: f for group, f in by_group.items() if group and sum(f.values()) >= decision.min_documents}
        out[metric] = {name: _lowest(f, decision.percentile) for name, f in {ALL: whole, **own}.items()}
    return Percentiles(out)


def _lowest(found: dict[int, int], percentile: float) -> int:
    if not found:
        return 0
    at = sorted(found)
    through = np.cumsum([found[b] for b in at])
    fits = int(np.searchsorted(through, percentile / 100 * through[-1] + 1e-9, "right"))  # bins that go whole
    return at[min(fits, len(at) - 1)]


@dataclass(frozen=True)
class _Task:
    uri: str
    stage: str
    decisions: dict[str, Decision]


def _count_shard(task: _Task) -> Counts:
    asked = {name.partition(".")[0] for d in task.decisions.values() for name in d.within}
    tops = {task.stage, *asked, *(name for d in task.decisions.values() for name in d.within)}
    with storage.open_parquet(task.uri) as file:
        table = file.read([c for c in file.schema.names if c in tops])
    return count(Attributes(table, task.stage), task.decisions)


def settle_run(tagged: Sequence[str], stage: str, settings: Classify) -> Percentiles | None:
    """The `Percentiles` of a stage over the tagged shards at these URIs; None if it asks for none. Reads attribute
    columns only, once."""
    decisions = {name: d for name, d in settings.decisions.items() if d.percentile is not None}
    if not decisions:
        return None
    total: Counts = {}
    for counts in run_tasks(_count_shard, [_Task(uri, stage, decisions) for uri in tagged], name="percentiles"):
        merge(total, counts)
    return settle(total, decisions)
