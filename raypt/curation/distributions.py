"""How a stage's numbers (a perplexity) are distributed over the languages of a run: counts that add up over shards."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt.curation.base import Attributes
from raypt.curation.config import CurationConfig

Distribution = dict[str, Any]
"""Of one language: `documents`, `kept` and `not_measured` documents; `bins`, bin -> measured documents; `buckets`,
settled metric -> value -> documents, bytes, kept documents, kept bytes."""
Distributions = dict[str, dict[str, Distribution]]
"""Metric (`perplexity.per_token`) -> language -> its distribution."""

_DROPPED_BITS = 19
"""Four bits of fraction are left: 16 bins an octave, none wider than 6 %."""
_LAST = (0x7F800000 >> _DROPPED_BITS) - 2
"""The bin of all that is larger than any number has a reason to be (3e38 and more)."""


def bins(values: np.ndarray) -> np.ndarray:
    """int64[n] of numbers >= 0: the position among float32 with four bits of fraction."""
    with np.errstate(over="ignore"):
        at = (values.astype(np.float32).view(np.uint32) >> _DROPPED_BITS).astype(np.int64)
    return np.minimum(at, _LAST)


def edge_of(at: int) -> float:
    """Where a bin begins."""
    return float(np.array(at << _DROPPED_BITS, np.uint32).view(np.float32))


def distributions(
    tagged: pa.Table, reason: pa.Array, config: CurationConfig, settled: Mapping[str, pa.Array]
) -> Distributions:
    """Of a decided table. `settled`: metrics by `<stage>.<metric>` that are not in it."""
    out: Distributions = {}
    for stage in config.plan():
        own = {name.partition(".")[2]: column for name, column in settled.items() if name.startswith(f"{stage.name}.")}
        for metric in stage.settings.number_metrics():
            attributes = Attributes(tagged, stage.name)
            columns = {
                "lang": pc.fill_null(attributes.languages.cast(pa.string()), ""),
                "value": attributes.metric(metric),
                "bytes": tagged["text_bytes"].combine_chunks(),
                "kept": pc.is_null(reason),
                **{f"settled.{name}": column for name, column in own.items()},
            }
            table = pa.table(columns)
            out[f"{stage.name}.{metric}"] = {
                lang: _of(table.filter(pc.equal(table["lang"], lang)), own)
                for lang in sorted(pc.unique(table["lang"]).to_pylist())
            }
    return out


def _of(table: pa.Table, settled: Iterable[str]) -> Distribution:
    """Of the documents of one language."""
    value, kept = table["value"].to_numpy(), table["kept"].to_numpy()
    measured = ~np.isnan(value)
    at, counts = np.unique(bins(value[measured]), return_counts=True)
    return {
        "documents": len(table),
        "kept": int(kept.sum()),
        "not_measured": int((~measured).sum()),
        "bins": dict(zip(map(str, at.tolist()), counts.tolist(), strict=True)),
        "buckets": {name: _by_bucket(table, f"settled.{name}") for name in settled},
    }


def _by_bucket(table: pa.Table, column: str) -> dict[str, list[int]]:
    kept = table["kept"].cast(pa.int64())
    counted = pa.table(
        {
            "bucket": pc.fill_null(table[column], ""),
            "bytes": table["bytes"],
            "kept": kept,
            "kept_bytes": pc.multiply(kept, table["bytes"]),
        }
    )
    found = counted.group_by("bucket").aggregate(
        [([], "count_all"), ("bytes", "sum"), ("kept", "sum"), ("kept_bytes", "sum")]
    )
    names = ("count_all", "bytes_sum", "kept_sum", "kept_bytes_sum")
    return {row["bucket"]: [row[name] for name in names] for row in sorted(found.to_pylist(), key=_bucket)}


def _bucket(row: Mapping[str, Any]) -> str:
    return str(row["bucket"])


def merge(total: Distributions, more: Distributions) -> None:
    """Add counts to others."""
    for metric, by_language in more.items():
        into = total.setdefault(metric, {})
        for lang, found in by_language.items():
            empty = {"documents": 0, "kept": 0, "not_measured": 0, "bins": {}, "buckets": {}}
            one = into.setdefault(lang, empty)
            for key in ("documents", "kept", "not_measured"):
                one[key] += found[key]
            for at, n in found["bins"].items():
                one["bins"][at] = one["bins"].get(at, 0) + n
            for name, buckets in found["buckets"].items():
                of = one["buckets"].setdefault(name, {})
                for bucket, counts in buckets.items():
                    of[bucket] = [a + b for a, b in zip(of.get(bucket, [0, 0, 0, 0]), counts, strict=True)]


def quantile(found: Mapping[str, int], percentile: float) -> float | None:
    """The percentile of the values that `bins` counted, straight between the edges of its bin; None without values."""
    if not found:
        return None
    at = sorted(map(int, found))
    through = np.cumsum([found[str(b)] for b in at])
    wanted = percentile / 100 * float(through[-1])
    i = int(np.searchsorted(through, wanted, "left"))
    before = int(through[i - 1]) if i else 0
    low, high = edge_of(at[i]), edge_of(at[i] + 1)
    return low + (high - low) * (float(wanted) - before) / (int(through[i]) - before)


SHOWN = (10, 50, 90)
"""Percentiles of the summary."""


def summarised(distributions: Distributions) -> dict[str, Any]:
    """By metric and language: documents, those not measured, percentiles, and each bucket's share of the measured
    documents."""
    out: dict[str, Any] = {}
    for metric, by_language in distributions.items():
        for lang, found in by_language.items():
            measured = found["documents"] - found["not_measured"]
            out.setdefault(metric, {})[lang] = {
                "documents": found["documents"],
                "not_measured": found["not_measured"],
                "percentiles": {str(p): quantile(found["bins"], p) for p in SHOWN},
                "buckets": {
                    name: {b: round(counts[0] / measured, 4) for b, counts in of.items() if b and measured}
                    for name, of in found["buckets"].items()
                },
            }
    return out
