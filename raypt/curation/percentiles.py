"""Percentiles of a run's own documents, by group: one pass over the attributes of the tagged shards.

A metric's values are counted in bins that ascend with them. Counts add up, so the result does not depend on the order
of shards or on who counted them; documents of one bin stay together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt import storage
from raypt.curation.base import Attributes
from raypt.tasks import run_tasks

ALL = ""
"""The key of the whole run."""
_SEPARATOR = "\x1f"
_NAMED = 10
"""Groups that a warning names."""
TWENTIETHS = tuple(f"{low}-{low + 5}" for low in range(0, 100, 5))
"""The parts of the run that reports count percentiles by."""

Bins = Callable[[np.ndarray], np.ndarray]
"""int64[n] bins of values, ascending with them; -1 for NaN, which is not measured."""
ByGroup = dict[str, dict[int, int]]
"""Group -> bin -> documents."""
Counts = dict[str, ByGroup]
"""Metric -> group -> bin -> documents."""
Within = Mapping[str, tuple[str, ...]]
"""Metric, or `keyed` one -> the columns in whose every group its percentiles are taken; none: over the run."""


def keyed(metric: str, within: Sequence[str]) -> str:
    """A name for the counts of a metric in these groups, where it is counted in several kinds of them."""
    return _SEPARATOR.join((metric, *within))


def groups(attributes: Attributes, within: Sequence[str]) -> pa.Array:
    """string[n]: the group of each document; a null is a value of its own."""
    if not within:
        return pa.array([ALL] * len(attributes), pa.string())
    parts = [pc.fill_null(attributes.named(name).cast(pa.string()), "") for name in within]
    return pc.binary_join_element_wise(*parts, "", _SEPARATOR)  # ends in a separator: no group is called ALL


def shown(group: str) -> str:
    """A group as a reader sees it: `en`, `web/en`; the whole run: ``."""
    return "/".join(group.split(_SEPARATOR)[:-1])


def few(by_group: ByGroup, least: int) -> str | None:
    """The groups of fewer measured documents than `least`, for a message: `yo (10), fo (3)`; None if there are none.
    The run as a whole is called so."""
    found = {shown(g) or "the run": sum(bins.values()) for g, bins in by_group.items() if sum(bins.values()) < least}
    if not found:
        return None
    named = [f"{name} ({n})" for name, n in sorted(found.items())]
    more = f" and {len(named) - _NAMED} more groups" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more


def by_document(attributes: Attributes, within: Sequence[str], values: Mapping[str, int], default: int) -> np.ndarray:
    """int64[n]: each document's value of those by group."""
    names = groups(attributes, within).dictionary_encode()
    own = np.array([*(values.get(name, default) for name in names.dictionary.to_pylist()), default], np.int64)
    found: np.ndarray = own[names.indices.to_numpy(zero_copy_only=False)]
    return found


def count(attributes: Attributes, within: Within, bins: Bins) -> Counts:
    """Documents of a tagged table by metric, group and bin."""
    out: Counts = {}
    for key, columns in within.items():
        at = bins(attributes.metric(key.partition(_SEPARATOR)[0]))
        table = pa.table({"group": groups(attributes, columns), "bin": at}).filter(pa.array(at >= 0))
        by_group = out.setdefault(key, {})
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


def whole(by_group: ByGroup) -> dict[int, int]:
    """The counts of all groups together."""
    total: Counts = {}
    for found in by_group.values():
        merge(total, {"": {ALL: found}})
    return total.get("", {}).get(ALL, {})


def first_above(found: Mapping[int, int], percentile: float) -> int:
    """The lowest bin that stays when those below it go: they hold at most `percentile` of a hundred documents, and the
    highest bin stays always. 0 without documents."""
    if not found:
        return 0
    at, through = _cumulated(found)
    fits = int(np.searchsorted(through, percentile / 100 * through[-1] + 1e-9, "right"))  # bins that go whole
    return at[min(fits, len(at) - 1)]


def last_below(found: Mapping[int, int], percentile: float) -> int:
    """The highest bin that stays when those above it go: they hold at most `100 - percentile` of a hundred documents,
    and the lowest bin stays always. 0 without documents."""
    if not found:
        return 0
    at, through = _cumulated(found)
    return at[int(np.searchsorted(through, percentile / 100 * through[-1] - 1e-9, "left"))]


Steps = tuple[list[int], list[int]]
"""Ascending bins, and the percentile from each of them on up to the next, in tenths (0 to 999)."""


def steps(found: Mapping[int, int]) -> Steps:
    """A bin's percentile: the share of the documents below it and of half of those in it, rounded down to a tenth of a
    hundredth. In integers, so the same everywhere; at most 1,000 steps, however many bins there are."""
    if not found:
        return [], []
    at, through = _cumulated(found)
    own = np.diff(through, prepend=0)
    tenths = (2 * through - own) * 500 // through[-1]
    first = np.flatnonzero(np.diff(tenths, prepend=-1))
    return [at[i] for i in first], tenths[first].tolist()


def stands(
    attributes: Attributes, within: Sequence[str], at: np.ndarray, own: Mapping[str, Steps], default: Steps
) -> np.ndarray:
    """float32[n]: the percentile, in [0, 100), of each document's bin `at` among its group's steps, NaN for -1."""
    names = groups(attributes, within).dictionary_encode()
    codes = names.indices.to_numpy(zero_copy_only=False)
    out = np.full(len(at), np.nan, np.float32)
    order = np.argsort(codes, kind="stable")
    for code, rows in enumerate(np.split(order, np.searchsorted(codes[order], np.arange(1, len(names.dictionary))))):
        if not len(rows):
            continue  # no documents at all
        bins, tenths = own.get(names.dictionary[code].as_py(), default)
        step = np.searchsorted(bins, at[rows], "right") - 1
        known = (at[rows] >= 0) & (step >= 0)
        out[rows[known]] = np.asarray(tenths, np.float32)[step[known]] / np.float32(10)
    return out


def _cumulated(found: Mapping[int, int]) -> tuple[list[int], np.ndarray]:
    at = sorted(found)
    return at, np.cumsum([found[b] for b in at])


@dataclass(frozen=True)
class _Task:
    uri: str
    stage: str
    within: Within
    bins: Bins


def _count_shard(task: _Task) -> Counts:
    asked = {name for columns in task.within.values() for name in columns}
    tops = {task.stage, *asked, *(name.partition(".")[0] for name in asked)}
    with storage.open_parquet(task.uri) as file:
        table = file.read([c for c in file.schema.names if c in tops])
    return count(Attributes(table, task.stage), task.within, task.bins)


def count_run(tagged: Sequence[str], stage: str, within: Within, bins: Bins) -> Counts:
    """Of a stage's metrics over the tagged shards at these URIs. Reads attribute columns only, once."""
    total: Counts = {}
    tasks = [_Task(uri, stage, within, bins) for uri in tagged]
    for counts in run_tasks(_count_shard, tasks, name="percentiles"):
        merge(total, counts)
    return total
