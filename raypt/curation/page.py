"""What curation shows in the report: the funnel of documents and bytes, the quality classifier."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raypt.charts import COLOURS, Series, bar_chart, histogram, line_chart, number
from raypt.curation.percentiles import TWENTIETHS
from raypt.curation.quality.metrics import shown_interval
from raypt.html import cards, table, text
from raypt.ledger import Amount, Ledger


def funnel(ledger: Ledger) -> str:
    """Documents and bytes left after each stage, and a table of what each rule removed or cut."""
    stages = list(ledger.stages.items())
    first = stages[0][1].entered

    def share(part: int, whole: int) -> str:
        return f"{part:,}  ({100 * part / whole:.1f} %)" if whole else f"{part:,}"

    documents = [("input", float(first.documents), share(first.documents, first.documents))]
    nbytes = [("input", float(first.bytes), f"{first.bytes / 1e6:,.1f} MB")]
    for name, stage in stages:
        documents.append((name, float(stage.kept.documents), share(stage.kept.documents, first.documents)))
        nbytes.append((name, float(stage.kept.bytes), f"{stage.kept.bytes / 1e6:,.1f} MB"))
    charts = bar_chart(documents, title="Documents left after each stage") + bar_chart(
        nbytes, title="Text left after each stage", colours=[COLOURS[2]] * len(nbytes)
    )
    rows = []
    for name, stage in stages:
        rows.append(
            f"<tr class=stage><td>{text(name)}</td><td></td><td class=n>{stage.entered.documents:,} → "
            f"{stage.kept.documents:,}</td><td class=n>{stage.entered.bytes:,} → {stage.kept.bytes:,}</td></tr>"
        )
        for verb, reasons in (("removed", stage.removed), ("cut", stage.edited)):
            for reason, amount in sorted(reasons.items(), key=lambda item: -item[1].bytes):
                rows.append(_reason_row(verb, reason, amount))
    head = "<tr><th>stage</th><th>rule</th><th class=n>documents</th><th class=n>bytes</th></tr>"
    whole = f"<div class=scroll><table>{head}{''.join(rows)}</table></div>"
    return f"{charts}<details open><summary>Every rule</summary>{whole}</details>"


def _reason_row(verb: str, reason: str, amount: Amount) -> str:
    return (
        f"<tr><td></td><td>{verb} {text(reason)}</td><td class=n>{amount.documents:,}</td>"
        f"<td class=n>{amount.bytes:,}</td></tr>"
    )


def split_line(split: Mapping[str, int]) -> str:
    """How far held-out text could be kept apart from what was learnt, in a sentence or two."""
    said = [f"Held out of {split['texts']:,} texts by near copies and {split['hosts']:,} hosts"]
    for key, words in (
        ("without_host", "have no host"),
        ("in_big_hosts", "are of hosts too big to be held out as a whole, so other pages of theirs were learnt"),
        ("in_big_groups", "are near copies of each other in groups too big for it, so the figures are too good"),
    ):
        if split[key]:
            said.append(f"{split[key]:,} {words}")
    return "; ".join(said) + "."


def quality_section(
    card: dict[str, Any],
    histogram_counts: Sequence[int],
    threshold: float | None,
    not_measured: int = 0,
    percentile: float | None = None,
    languages: Sequence[str] = (),
) -> str:
    """The classifier: held-out figures, the distribution of scores, calibration, what it could not measure, and how
    certain its `percentile` is, in the run and in the `languages` with one of their own."""
    found = card.get("metrics", {})
    heldout = found.get("heldout", {})
    keys = ("documents", "accuracy", "balanced_accuracy", "precision", "recall")
    parts = [
        cards([(number(heldout[k]), f"held-out {k.replace('_', ' ')}") for k in keys if heldout.get(k) is not None])
    ]
    if split := found.get("split"):
        parts.append(f"<p>{split_line(split)}</p>")
    if not_measured:
        parts.append(
            f"<p>Not measured: {not_measured:,} documents have no score, for the classifier knows none of their words "
            "or they were not put to it. They passed.</p>"
        )
    if percentile is not None:
        parts.append(_percentile_table(card, percentile, languages))
    figures = []
    if sum(histogram_counts):
        edges = [i / len(histogram_counts) for i in range(len(histogram_counts) + 1)]
        levels = [("threshold", threshold)] if threshold is not None else []
        figures.append(
            histogram(edges, histogram_counts, title="Quality score of all documents", x_label="score", levels=levels)
        )
    bins = [b for b in found.get("calibration", []) if b.get("documents")]
    if bins:
        figures.append(
            line_chart(
                [
                    Series(
                        "held-out", [b["mean_score"] for b in bins], [b["reference_fraction"] for b in bins], marks=True
                    ),
                    Series("perfect", [0, 1], [0, 1], dashed=True),
                ],
                title="Calibration",
                x_label="mean score",
                y_label="share of reference",
                width=420,
                height=240,
            )
        )
    return "".join(parts) + f"<div class=row>{''.join(figures)}</div>"


def _percentile_table(card: dict[str, Any], percentile: float, languages: Sequence[str]) -> str:
    by_language = card["percentiles"].get("lang", {})
    groups = [("all", card["percentiles"]["all"][""]), *((n, by_language[n]) for n in languages if n in by_language)]
    rows = [
        (
            name,
            f"{of['documents']:,}",
            f"{np.interp(percentile, range(101), of['scores']):.4f}",
            shown_interval(percentile, of["documents"]),
        )
        for name, of in groups
    ]
    return table(
        [f"percentile {percentile:g}", "raw documents", "score", "drops of further pages (95 %)"], rows, (1, 2, 3)
    )


def trained_section(trained: Mapping[str, Any]) -> str:
    """By classifier that the run trained: what it gets right on held-out text, by label."""
    parts = []
    for name, found in trained.items():
        heldout = found["heldout"]
        keys = ("documents", "accuracy", "balanced_accuracy", "not_measured")
        shown = [(number(heldout[k]), f"held-out {k.replace('_', ' ')}") for k in keys if heldout[k] is not None]
        rows = [
            (label, f"{found['training']['learnt'].get(label, 0):,}", f"{of['documents']:,}", *_rates(of))
            for label, of in heldout["by_label"].items()
        ]
        left_out = ", ".join(f"{n:,} {why.replace('_', ' ')}" for why, n in found["training"]["left_out"].items())
        parts.append(cards(shown))
        parts.append(table([name, "learnt", "held out", "found (recall)", "right (precision)"], rows, (1, 2, 3, 4)))
        parts.append(f"<p>{split_line(found['split'])}{' Left out: ' + text(left_out) + '.' if left_out else ''}</p>")
    return "".join(parts)


def _rates(of: Mapping[str, Any]) -> tuple[str, str]:
    recall, precision = ("" if of[k] is None else f"{100 * of[k]:.1f} %" for k in ("recall", "precision"))
    return recall, precision


MAX_ROWS = 50
"""Labels of a classifier that are shown, the most frequent first."""


def _twentieth(label: str) -> int:
    """Percentiles are shown in their order."""
    return TWENTIETHS.index(label) if label in TWENTIETHS else len(TWENTIETHS)


def labels_section(counts: Mapping[str, Mapping[str, Sequence[int]]]) -> str:
    """By classifier and label: documents and bytes as curation measured them, and what of them is kept."""
    parts = []
    for metric, by_label in counts.items():
        shown = sorted(by_label.items(), key=lambda item: (_twentieth(item[0]), -item[1][1], item[0]))
        rows: list[tuple[str, ...]] = []
        for label, (documents, nbytes, kept, kept_bytes) in shown[:MAX_ROWS]:
            share = f"{100 * kept_bytes / nbytes:.1f} %" if nbytes else ""
            figures = (f"{documents:,}", f"{nbytes:,}", f"{kept:,}", f"{kept_bytes:,}", share)
            rows.append((label or "(not measured)", *figures))
        if rest := [found for _, found in shown[MAX_ROWS:]]:
            rows.append((f"({len(rest)} more)", *(f"{sum(column):,}" for column in zip(*rest, strict=True)), ""))
        head = [metric, "documents", "bytes", "kept documents", "kept bytes", "share of bytes"]
        parts.append(table(head, rows, (1, 2, 3, 4, 5)))
    return "".join(parts)
