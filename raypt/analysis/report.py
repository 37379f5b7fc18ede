"""`report.html`: one self-contained page that tells what a run did with its documents, and how training went.

Everything is read from files of the run directory, so a report can be written again at any time; what a run does not
have (a switched-off stage, no training) is left out.
"""

import html
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow.parquet as pq

from raypt import storage
from raypt.charts import COLOURS, Series, bar_chart, histogram, line_chart, number
from raypt.curation.ledger import Amount, Ledger
from raypt.run_dir import RunDir
from raypt.training.records import read_metrics

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#24292f;max-width:1060px;margin:32px auto;padding:0 20px}
h1{font-size:26px;margin:0 0 4px}
h2{font-size:19px;margin:40px 0 10px;border-bottom:1px solid #d8dee4;padding-bottom:4px}
table{border-collapse:collapse;font-size:13px}td,th{padding:3px 12px 3px 0;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}tr.stage td{border-top:1px solid #d8dee4;font-weight:600}
.cards{display:flex;flex-wrap:wrap;gap:12px;margin:18px 0}
.card{border:1px solid #d8dee4;border-radius:8px;padding:10px 16px}
.card b{display:block;font-size:21px}.card span,.muted{color:#57606a;font-size:13px}
.row{display:flex;flex-wrap:wrap;gap:16px}svg{max-width:100%;height:auto}
pre{background:#f6f8fa;border-radius:6px;padding:10px 12px;white-space:pre-wrap;overflow-wrap:anywhere;margin:6px 0}
pre{font-size:13px}
summary{cursor:pointer}
"""


STEP_PARTS = ("forward", "backward", "update", "communication")


def text(value: Any) -> str:
    """Escaped for HTML: every string from outside goes through here."""
    return html.escape(str(value), quote=True)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], numeric: Sequence[int] = ()) -> str:
    def cell(tag: str, i: int, value: Any) -> str:
        return f"<{tag}{' class=n' if i in numeric else ''}>{text(value)}</{tag}>"

    body = "".join("<tr>" + "".join(cell("td", i, v) for i, v in enumerate(row)) + "</tr>" for row in rows)
    return "<table><tr>" + "".join(cell("th", i, v) for i, v in enumerate(head)) + f"</tr>{body}</table>"


def cards(entries: Sequence[tuple[str, str]]) -> str:
    inner = "".join(f"<div class=card><b>{text(value)}</b><span>{text(label)}</span></div>" for value, label in entries)
    return f"<div class=cards>{inner}</div>"


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
    return charts + f"<details open><summary>Every rule</summary><table>{head}{''.join(rows)}</table></details>"


def _reason_row(verb: str, reason: str, amount: Amount) -> str:
    return (
        f"<tr><td></td><td>{verb} {text(reason)}</td><td class=n>{amount.documents:,}</td>"
        f"<td class=n>{amount.bytes:,}</td></tr>"
    )


def quality_section(card: dict[str, Any], histogram_counts: Sequence[int], threshold: float | None) -> str:
    """The classifier: held-out figures, the distribution of scores, calibration."""
    found = card.get("metrics", {})
    heldout = found.get("heldout", {})
    keys = ("documents", "accuracy", "balanced_accuracy", "precision", "recall")
    parts = [
        cards([(number(heldout[k]), f"held-out {k.replace('_', ' ')}") for k in keys if heldout.get(k) is not None])
    ]
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


def samples_section(accounts: list[dict[str, Any]]) -> str:
    """By source: samples in the token store, trained on, met again, and left out by which rule."""
    rows = [
        (
            a["source"],
            *(f"{a[key]:,}" for key in ("stored", "trained", "repeats")),
            ", ".join(f"{n:,} {rule.replace('_', ' ')}" for rule, n in a["left_out"].items()),
        )
        for a in accounts
    ]
    return table(["source", "samples stored", "trained on", "met again", "left out"], rows, numeric=(1, 2, 3))


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
    for cluster in report["biggest_clusters"]:
        sources = ", ".join(f"{name} {n}" for name, n in cluster["sources"].items())
        example = "".join(f"<pre>{text(t)}</pre>" for t in cluster["texts"])
        parts.append(f"<details><summary>{cluster['size']} documents ({text(sources)})</summary>{example}</details>")
    return "".join(parts)


def throughput_section(stages: dict[str, dict[str, float]], rows: list[dict[str, Any]]) -> str:
    """Wall seconds and rates of the data stages and of training."""
    order = sorted(stages.items(), key=lambda item: item[1]["started"])
    bars = []
    for name, figures in order:
        rate = figures["bytes"] / figures["seconds"] / 1e6 if figures.get("bytes") else None
        shown = f"{figures['seconds']:.1f} s" + (f", {rate:.1f} MB/s" if rate else "")
        bars.append((name, figures["seconds"], shown))
    chart = bar_chart(bars, title="Wall time by stage")
    speeds = sorted(r["tokens_per_s"] for r in rows if r.get("tokens_per_s"))
    return chart + (f"<p>Training: {speeds[len(speeds) // 2]:,.0f} tokens/s (median step).</p>" if speeds else "")


def training_section(rows: list[dict[str, Any]], unigram_nats: float | None) -> str:
    """Loss against the unigram entropy of the text, held-out loss, learning rate, gradient norm, speed, waiting."""
    steps = [r["step"] for r in rows]

    def series(name: str, key: str, **options: Any) -> Series:
        have = [r for r in rows if r.get(key) is not None]
        return Series(name, [r["step"] for r in have], [r[key] for r in have], **options)

    losses = [series("training", "loss"), series("held-out", "heldout_loss", marks=True)]
    levels = [("unigram entropy", unigram_nats)] if unigram_nats is not None else []
    wide = line_chart(
        losses, title="Loss", x_label="step", y_label="nats a token", levels=levels, width=900, height=340
    )
    small = [
        line_chart([series(name, key)], title=name, x_label="step", y_label=unit, width=440, height=220)
        for name, key, unit in (
            ("Learning rate", "lr", ""),
            ("Gradient norm", "grad_norm", ""),
            ("Tokens per second", "tokens_per_s", "tokens/s"),
            ("Share of the step spent waiting for data", "data_wait_fraction", ""),
        )
    ]
    assert steps == sorted(steps), "metrics.jsonl is not in the order of steps"
    return wide + f"<div class=row>{''.join(small)}{_step_parts(rows)}</div>" + _data_wait(rows)


def _step_parts(rows: list[dict[str, Any]]) -> str:
    """Where the time of a step goes: the median of each part, since the first steps and those of a save are longer."""
    entries = []
    for part in STEP_PARTS:
        seconds = [row[f"{part}_s"] for row in rows if f"{part}_s" in row]
        if seconds:
            entries.append((part, median := statistics.median(seconds), f"{1000 * median:,.1f} ms"))
    return bar_chart(entries, title="Parts of a step (median)", width=440) if entries else ""


def _data_wait(rows: list[dict[str, Any]]) -> str:
    """What training waited for: seconds by cause over the run, and the log's reasons where it was too much."""
    totals: dict[str, float] = {}
    for row in rows:
        for cause, seconds in row.get("data_wait_s", {}).items():
            totals[cause] = totals.get(cause, 0.0) + seconds
    if not totals:
        return ""
    shown = {"shards": "shards being tokenized", "reading": "reading the store", "transport": "transport of blocks"}
    all_of_it = ", ".join(f"{shown.get(cause, cause)} {seconds:.2f} s" for cause, seconds in totals.items())
    reasons = [(row["step"], row["data_wait_reason"]) for row in rows if row.get("data_wait_reason")]
    page = f"<p>Waited for samples, the first steps included: {text(all_of_it)}.</p>"
    if reasons:
        page += "<h3>Why training waited for samples</h3>" + table(["step", "reason"], reasons[-20:], (0,))
    return page


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
    if summary.get("tokens"):
        entries = [(key.replace("_", " "), value) for key, value in summary["tokens"].items()]
        parts.append(
            "<h2>Tokens</h2>"
            + table(["", ""], [(k, number(v) if isinstance(v, int | float) else v) for k, v in entries], (1,))
        )
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
