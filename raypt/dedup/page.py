"""What deduplication shows in the report: the S-curve, cluster sizes, the biggest clusters with their text."""

from typing import Any

from raypt.charts import Series, bar_chart, line_chart
from raypt.html import cards, table, text


def dedup_figures(report: dict[str, Any]) -> list[str]:
    """The S-curve of the bands, and how many clusters there are of each size."""
    figures = []
    fuzzy = report["definition"]["fuzzy"]
    if fuzzy:
        curve = fuzzy["s_curve"]
        series = [Series("theory", [p["jaccard"] for p in curve], [p["probability"] for p in curve])]
        measured = report.get("measured_s_curve", [])
        if measured:
            x, y = [p["jaccard"] for p in measured], [p["matched"] for p in measured]
            series.append(Series("measured on a sample of the clusters", x, y, marks=True, dashed=True))
        title = f"Pairs found by {fuzzy['bands']} bands of {fuzzy['rows']} rows"
        figures.append(line_chart(series, title=title, x_label="Jaccard", y_label="probability", width=440, height=260))
    sizes = [(str(c["size"]), float(c["clusters"]), f"{c['clusters']:,}") for c in report["cluster_sizes"][:20]]
    figures.append(bar_chart(sizes, title="Clusters by size", width=460))
    return figures


def _dedup_matrix(report: dict[str, Any]) -> str:
    """Source by source: clusters with a document of both (above the diagonal: the same number as below it)."""
    shared = {(p["a"], p["b"]): p["clusters"] for p in report["shared_between_sources"]}
    names = sorted({name for pair in shared for name in pair})
    if len(names) < 2:
        return ""
    rows = [(a, *(f"{shared.get((min(a, b), max(a, b)), 0):,}" for b in names)) for a in names]
    return "<h3>Clusters shared by sources</h3>" + table(["", *names], rows, numeric=range(1, len(names) + 1))


def _passages(found: dict[str, Any]) -> str:
    """The longest cuts of repeated substrings and the most frequent passages, with their text."""
    longest = [(f"{p['bytes']:,}", p["text"]) for p in found["longest"]]
    often = [(f"{p['occurrences']:,}", f"{p['units']:,}", p["text"]) for p in found["most_frequent"]]
    if not longest and not often:
        return ""
    heads = ["occurrences", f"{found['unit']}s", "passage"]
    return (
        "<h3>Repeated substrings</h3>"
        + table(["bytes cut", "passage"], longest, numeric=(0,))
        + table(heads, often, numeric=(0, 1))
    )


def _bloom(found: dict[str, Any]) -> str:
    """What the Bloom filters knew, at what price."""
    return (
        "<h3>Seen before, by Bloom filters</h3>"
        f"<p>{found['known']:,} of {found['keys']:,} keys ({text(found['unit'])}s) were known. At a false-positive "
        f"rate of {found['false_positive_rate']:g} when full, {found['expected_false']:.2g} of them are expected to be "
        f"mistakes. {found['filters']:,} filters, {found['filter_bytes'] / 1e6:,.1f} MB together, at most "
        f"{found['fill']:.0%} full. The first document in the corpus's order stays.</p>"
    )


def dedup_section(report: dict[str, Any]) -> str:
    """Cluster sizes, the S-curve, removals by source, the biggest clusters with their text."""
    parts = [
        cards(
            [
                (f"{report['removed_fraction']:.1%}", "of the documents removed"),
                (f"{report['clusters']:,}", "clusters"),
                (f"{report['documents_in_clusters']:,}", "documents in them"),
            ]
        ),
        f"<div class=row>{''.join(dedup_figures(report))}</div>",
    ]
    rows = [
        (source, f"{r['documents']:,}", f"{sum(r['removed'].values()):,}", f"{r['removed_fraction']:.1%}")
        for source, r in report["sources"].items()
    ]
    parts.append(table(["source", "documents", "removed", "share"], rows, numeric=(1, 2, 3)))
    parts.append(_dedup_matrix(report))
    for file in report.get("contamination", []):
        parts.append(f"<h3>Samples of {text(file['file'])} in the documents</h3>")
        parts.append(
            f"<p>{file['found']:,} of {file['samples']:,} samples found, {file['too_short']:,} too short to look for, "
            f"{file['documents_removed']:,} documents removed.</p>"
        )
        examples = [(e["sample"], f"{e['coverage']:.0%}", e["ngram"]) for e in file["examples"]]
        parts.append(table(["sample", "coverage", "shared words"], examples, numeric=(1,)) if examples else "")
    if "bloom" in report:
        parts.append(_bloom(report["bloom"]))
    if "substring" in report:
        parts.append(_passages(report["substring"]))
    for cluster in report["biggest_clusters"]:
        sources = ", ".join(f"{name} {n}" for name, n in cluster["sources"].items())
        example = "".join(f"<pre>{text(t)}</pre>" for t in cluster["texts"])
        parts.append(f"<details><summary>{cluster['size']} documents ({text(sources)})</summary>{example}</details>")
    return "".join(parts)
