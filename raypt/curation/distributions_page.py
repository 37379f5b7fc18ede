"""What the report shows of numbers by language: their distribution, and the shares of buckets."""

import math
from collections.abc import Sequence
from typing import Any

from raypt.charts import histogram, number
from raypt.curation.distributions import Distribution, Distributions, edge_of, quantile
from raypt.html import table, text

MAX_LANGUAGES = 50
"""Languages in a table, those of the most documents first."""
MAX_CHARTS = 4
PERCENTILES = (10, 30, 50, 60, 90)
"""Those of a table; CCNet cuts at 30 and 60."""
_BARS = 48
"""Bars of a chart, at most."""


def distributions_section(found: Distributions) -> str:
    """By metric: a table of the languages, a chart of the biggest ones, and the buckets."""
    return "".join(_metric(metric, by_language) for metric, by_language in found.items())


def _metric(metric: str, by_language: dict[str, Distribution]) -> str:
    order = sorted(by_language.items(), key=lambda item: (-item[1]["documents"], item[0]))
    measured = [(lang, one) for lang, one in order if one["bins"]]
    rows = [_row(lang, one) for lang, one in order[:MAX_LANGUAGES]]
    head = [metric, "documents", "not measured", *(f"p{p}" for p in PERCENTILES), "kept"]
    parts = [table(head, rows, range(1, len(head)))]
    if more := order[MAX_LANGUAGES:]:
        documents = sum(one["documents"] for _, one in more)
        parts.append(f"<p class=muted>{len(more)} more languages with {documents:,} documents.</p>")
    charts = "".join(_chart(metric, lang, one) for lang, one in measured[:MAX_CHARTS])
    parts.append(f"<div class=row>{charts}</div>")
    for name in dict.fromkeys(name for _, one in measured for name in one["buckets"]):
        parts.append(_buckets(f"{metric.rpartition('.')[0]}.{name}", name, measured[:MAX_LANGUAGES]))
    return "".join(parts)


def _named(lang: str) -> str:
    return lang or "(unknown)"


def _row(lang: str, one: Distribution) -> tuple[str, ...]:
    percentiles = [quantile(one["bins"], p) for p in PERCENTILES]
    shown = ("" if value is None else number(value) for value in percentiles)
    return _named(lang), f"{one['documents']:,}", f"{one['not_measured']:,}", *shown, f"{one['kept']:,}"


def _chart(metric: str, lang: str, one: Distribution) -> str:
    """Documents by value, from the lowest bin to the 99th percentile; what is above is in the last bar."""
    at = sorted(map(int, one["bins"]))
    last = max(b for b in at if edge_of(b) <= (quantile(one["bins"], 99) or 0.0))
    width = -(-(last + 1 - at[0]) // _BARS)
    starts = list(range(at[0], last + 1, width))
    counts = [0] * len(starts)
    for b in at:
        counts[min((b - at[0]) // width, len(counts) - 1)] += one["bins"][str(b)]
    edges = [_log2(edge_of(b)) for b in (*starts, starts[-1] + width)]
    median = quantile(one["bins"], 50)
    assert median is not None
    title = f"{metric}: {text(_named(lang))}"
    return histogram(edges, counts, title=title, x_label="log2", levels=[("median", _log2(median))])


def _log2(value: float) -> float:
    return math.log2(max(value, 1e-30))


def _buckets(title: str, name: str, languages: Sequence[tuple[str, Any]]) -> str:
    rows = []
    for lang, one in languages:
        total = sum(counts[1] for counts in one["buckets"].get(name, {}).values())
        for bucket, (documents, nbytes, kept, kept_bytes) in sorted(one["buckets"].get(name, {}).items()):
            share = f"{100 * nbytes / total:.1f} %" if total else ""
            figures = (f"{documents:,}", f"{nbytes:,}", share, f"{kept:,}", f"{kept_bytes:,}")
            rows.append((_named(lang), bucket or "(none)", *figures))
    head = ["language", title, "documents", "bytes", "share of bytes", "kept documents", "kept bytes"]
    return table(head, rows, (2, 3, 4, 5, 6))
