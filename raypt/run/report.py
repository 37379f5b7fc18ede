"""`report.html`: one self-contained page that tells what a run did with its documents, and how training went.

Everything is read from files of the run directory, so a report can be written again at any time; what a run does not
have (a switched-off stage, no training) is left out.
"""

from typing import Any

import pyarrow.parquet as pq

from raypt import storage
from raypt.charts import number
from raypt.curation.page import funnel, quality_section
from raypt.dedup.page import dedup_section
from raypt.html import STYLE, cards, table, text
from raypt.ledger import Ledger
from raypt.run_dir import RunDir
from raypt.tokens.page import samples_section, vocabulary_section
from raypt.training.page import throughput_section, training_section
from raypt.training.pipeline_page import pipeline_section
from raypt.training.records import read_metrics, read_pipeline


def _optional_json(uri: str) -> Any:
    return storage.read_json(uri) if storage.exists(uri) else None


def _languages(run: RunDir) -> list[tuple[str, str, int, int]]:
    """(source, language, documents, bytes) of the curated text, biggest first."""
    totals: dict[tuple[str, str], list[int]] = {}
    for name in storage.listdir(run.path("curated")):
        with storage.open_read(run.path("curated", name)) as f:
            columns = pq.read_table(f, columns=["source", "lang", "text_bytes"])
        grouped = columns.group_by(["source", "lang"]).aggregate([("text_bytes", "sum"), ("text_bytes", "count")])
        for row in grouped.to_pylist():
            entry = totals.setdefault((row["source"], row["lang"] or "–"), [0, 0])
            entry[0] += row["text_bytes_count"]
            entry[1] += row["text_bytes_sum"] or 0
    return sorted(((s, lang, d, b) for (s, lang), (d, b) in totals.items()), key=lambda row: -row[3])


def build_report(run: RunDir, name: str) -> str:
    """The page, from whatever the run directory has."""
    ledger_json = _optional_json(run.ledger)
    rows = read_metrics(run.uri)
    summary = _optional_json(run.path("summary.json")) or {}
    parts = [f"<h1>{text(name)}</h1><p class=muted>{text(run.uri)}</p>"]
    headline = [(number(value), label) for label, value in summary.get("headline", {}).items()]
    if headline:
        parts.append(cards(headline))
    if ledger_json:
        parts.append("<h2>What became of the documents</h2>" + funnel(Ledger.from_json(ledger_json)))
        languages = _languages(run)[:30]
        shown = [(s, lang, f"{d:,}", f"{b:,}") for s, lang, d, b in languages]
        parts.append("<h2>Curated text</h2>" + table(["source", "language", "documents", "bytes"], shown, (2, 3)))
    card = _optional_json(storage.join(run.quality, "quality.json"))
    if card:
        scores = _optional_json(run.quality_scores) or {}
        parts.append("<h2>Quality classifier</h2>")
        parts.append(quality_section(card, scores.get("histogram", []), scores.get("threshold")))
    dedup = _optional_json(run.path("dedup", "report.json"))
    if dedup:
        parts.append("<h2>Duplicates</h2>" + dedup_section(dedup))
    if rows:
        parts.append("<h2>Training</h2>" + training_section(rows, summary.get("unigram_nats")))
    if (pipeline := read_pipeline(run.uri)) is not None:
        parts.append(pipeline_section(*pipeline))
    if summary.get("tokens"):
        entries = [(key.replace("_", " "), value) for key, value in summary["tokens"].items()]
        parts.append(
            "<h2>Tokens</h2>"
            + table(["", ""], [(k, number(v) if isinstance(v, int | float) else v) for k, v in entries], (1,))
        )
    if summary.get("vocabulary"):
        parts.append("<h2>Text outside the vocabulary</h2>" + vocabulary_section(summary["vocabulary"]))
    if summary.get("samples"):
        parts.append("<h2>Samples</h2>" + samples_section(summary["samples"]))
    stages = {
        n.removesuffix(".json"): storage.read_json(run.path("work", "stages", n))
        for n in storage.listdir(run.path("work", "stages"))
    }
    if stages:
        parts.append("<h2>Throughput</h2>" + throughput_section(stages, rows))
    sample = _optional_json(run.path("sample.json"))
    if sample:
        shown_text = "".join(f"<pre><b>{text(s['prompt'])}</b>{text(s['text'])}</pre>" for s in sample)
        parts.append("<h2>Generated text</h2>" + shown_text)
    if storage.exists(run.config):
        parts.append(
            "<h2>Configuration</h2><details><summary>config.yaml</summary><pre>"
            + text(storage.read_bytes(run.config).decode())
            + "</pre></details>"
        )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{text(name)}</title><style>{STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )


def write_report(run: RunDir, name: str) -> str:
    """Write `report.html`; returns its URI."""
    uri = run.path("report.html")
    storage.write_bytes(uri, build_report(run, name).encode())
    return uri
