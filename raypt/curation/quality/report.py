"""What a trained classifier measured, for the terminal and as a self-contained HTML page with its calibration plot."""

from collections.abc import Iterable, Sequence
from typing import Any

from raypt import storage
from raypt.charts import Series, line_chart
from raypt.curation.quality.metrics import shown_interval
from raypt.curation.quality.model import QualityCard
from raypt.html import page, table, text

REPORT_FILE = "report.html"
PERCENTILES_HEAD = ("raw score percentiles", "n", "p5", "p25", "p50", "p75", "p95", "p10 drops", "p50 drops")
"""The last two: the 95 % interval of the share of further pages below that percentile."""
HEAD = ("held-out documents", "n", "accuracy", "balanced", "precision", "recall")
MAX_LINES = 6
"""Score curves drawn: the languages with the most documents."""


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _row(name: str, found: dict[str, Any]) -> tuple[str, ...]:
    rates = (found[k] for k in ("accuracy", "balanced_accuracy", "precision", "recall"))
    return (name, f"{found['documents']:,}", *map(_rate, rates))


def heldout_rows(card: QualityCard) -> list[tuple[str, ...]]:
    """Rows under HEAD: all held-out documents, then by language and by source."""
    metrics = card.metrics
    return [
        _row("all", metrics["heldout"]),
        *(_row(f"language {name}", v) for name, v in metrics["heldout_by_language"].items()),
        *(_row(f"source {name}", v) for name, v in metrics["heldout_by_source"].items()),
    ]


def percentile_rows(card: QualityCard, at: Sequence[int] = (5, 25, 50, 75, 95)) -> list[tuple[str, ...]]:
    """Under PERCENTILES_HEAD, of the held-out raw sample: all, by language, by source."""
    groups = [(" ".join((kind, name)).strip(), v) for kind, of in card.percentiles.items() for name, v in of.items()]
    return [
        (
            name,
            f"{v['documents']:,}",
            *(f"{v['scores'][p]:.4f}" for p in at),
            *(shown_interval(p, v["documents"]) for p in (10, 50)),
        )
        for name, v in groups
    ]


def _text_table(rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    widths = [max(len(r[c]) for r in rows) for c in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(w) if c == 0 else cell.rjust(w) for c, (cell, w) in enumerate(zip(r, widths, strict=True)))
        for r in rows
    )


def summary(card: QualityCard) -> str:
    """Training, held-out metrics and score percentiles as text."""
    training = card.metrics["training"]
    windows = training["windows_per_side_by_language"]
    named = ", ".join(f"{lang or 'undetermined'} {n:,}" for lang, n in windows.items())
    return "\n".join(
        (
            f"trained on {training['reference_documents']:,} reference, {training['raw_documents']:,} raw documents, "
            f"{training['epochs']} passes, learning rate {training['learning_rate']:g}; windows a side: {named}",
            f"area under the ROC curve {card.metrics['area_under_roc']}, fingerprint {card.fingerprint}",
            "",
            _text_table([HEAD, *heldout_rows(card)]),
            "",
            _text_table([PERCENTILES_HEAD, *percentile_rows(card)]),
        )
    )


def calibration_chart(card: QualityCard) -> str:
    """Mean score against the share of reference text, by tenths of the score; on the diagonal the two are one."""
    bins = [b for b in card.metrics["calibration"] if b["mean_score"] is not None]
    return line_chart(
        [
            Series("measured", [b["mean_score"] for b in bins], [b["reference_fraction"] for b in bins], marks=True),
            Series("calibrated", [0.0, 1.0], [0.0, 1.0], dashed=True),
        ],
        title="Calibration on held-out documents (both sides count alike)",
        x_label="mean score of the bin",
        y_label="share of reference text",
    )


def percentile_chart(card: QualityCard) -> str:
    """Score by percentile of the raw held-out sample, for the languages with most documents."""
    by_language = sorted(card.percentiles.get("lang", {}).items(), key=lambda item: -item[1]["documents"])[:MAX_LINES]
    curves = [("all", card.percentiles["all"][""]), *by_language] if card.percentiles["all"] else []
    return line_chart(
        [Series(name, list(range(101)), values["scores"]) for name, values in curves],
        title="Scores of raw pages: what a percentile threshold would be",
        x_label="percentile of raw pages",
        y_label="score",
    )


def write_report(card: QualityCard, uri: str) -> str:
    """Write the page into the artefact directory `uri`; return its URI."""
    body = "".join(
        (
            "<h1>Quality classifier</h1>",
            f"<pre>{text(summary(card).split(chr(10) * 2)[0])}</pre>",
            table(HEAD, heldout_rows(card), range(1, len(HEAD))),
            calibration_chart(card),
            table(PERCENTILES_HEAD, percentile_rows(card), range(1, len(PERCENTILES_HEAD))),
            percentile_chart(card),
        )
    )
    out = storage.join(uri, REPORT_FILE)
    storage.write_bytes(out, page("Quality classifier", body).encode())
    return out
