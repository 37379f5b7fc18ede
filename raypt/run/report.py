"""Write `report.html`: one self-contained page that tells what a run did with its documents, and how training went.

    raypt report RUN [--out FILE]

Jobs write it while they run (`raypt.run.live_page`) and when they end, well or not. Everything is read from files of
the run directory, so it can be written again at any time; what a run does not have (a switched-off stage, no training)
is left out.
"""

import argparse
from collections.abc import Collection
from typing import Any

import yaml

from raypt import storage
from raypt.artefact import hash_of
from raypt.charts import number
from raypt.curation.distributions_page import distributions_section
from raypt.curation.page import funnel, labels_section, quality_section, trained_section
from raypt.dedup.page import dedup_section
from raypt.html import cards, contents, heading, page, table, text
from raypt.ledger import Ledger
from raypt.run import removed_examples
from raypt.run.diary import starts
from raypt.run.examples import look, quarantine_section, removed_section
from raypt.run.starts_page import hours_section, starts_section
from raypt.run.write import collection
from raypt.run_dir import RunDir
from raypt.storage import read_json_if_there
from raypt.tokens.page import samples_section, tokenizer_section, vocabulary_section
from raypt.tokens.tokenizer import CARD_FILE, FERTILITY_FILE
from raypt.training.page import throughput_section, training_section
from raypt.training.pipeline_page import pipeline_section
from raypt.training.records import PIPELINE, read_metrics, read_pipeline


def _trained_classifiers(run: RunDir) -> dict[str, Any]:
    """What each classifier that the run trained measured, by name."""
    found: dict[str, Any] = {}
    for stage in sorted(storage.listdir(run.path("classify"))):
        card = read_json_if_there(run.path("classify", stage, "card.json")) or {}
        found |= card.get("account", {}).get("trained", {})
    return found


def _languages(run: RunDir) -> list[tuple[str, str, int, int]]:
    """(source, language, documents, bytes) of the curated text, biggest first, from the accounts of its parts."""
    totals: dict[tuple[str, str], list[int]] = {}
    for card in collection(run).load().values():
        for source, languages in card.account.get("languages", {}).items():
            for language, (documents, nbytes) in languages.items():
                entry = totals.setdefault((source, language or "–"), [0, 0])
                entry[0] += documents
                entry[1] += nbytes
    return sorted(((s, lang, d, b) for (s, lang), (d, b) in totals.items()), key=lambda row: -row[3])


Kept = dict[str, str]
"""By a hash of the curated files and their sizes, the examples of removed documents that the last page showed."""


def _removed_documents(run: RunDir, kept: Kept | None) -> str:
    """Those that were chosen when they were written; else of the parts that are there, which are read once a start."""
    if (found := removed_examples.kept(run)) is not None:
        return removed_section(run, *found)
    curated = sorted(storage.list_sizes(run.path("curated")).items())
    key = hash_of(curated)
    removed = (kept or {}).get(key)
    if removed is None:
        shards = [run.shard_of(name) for name, _ in curated]
        removed = removed_section(run, look(run, shards), len(shards))
    if kept is not None:
        kept.clear()
        kept[key] = removed
    return removed


def build_report(
    run: RunDir,
    name: str,
    *,
    running: bool | None = None,
    kept: Kept | None = None,
    there: Collection[str] | None = None,
) -> str:
    """The page, from whatever the run directory has. `running`: see `starts_section`. `kept`: what one page of a run
    leaves for the next one, of this process. `there`: the names of what the directory has, where they are known.
    """
    there = set(storage.listdir(run.uri)) if there is None else there
    ledger_json = read_json_if_there(run.ledger)
    rows = read_metrics(run.uri, there)
    summary = read_json_if_there(run.path("summary.json")) or {}
    head = f"<h1>{text(name)}</h1><p class=muted>{text(run.uri)}</p>"
    parts: list[str] = []
    headline = [(number(value), label) for label, value in summary.get("headline", {}).items()]
    if (bits := newest(rows, "heldout_bits_per_byte")) is not None:
        headline.append((f"{bits:.3f}", "held-out bits a byte"))
    if headline:
        head += cards(headline)
    diary = starts(run)
    head += starts_section(run, diary, running=running)
    if ledger_json:
        parts.append(heading("What became of the documents") + funnel(Ledger.from_json(ledger_json)))
        if removed := _removed_documents(run, kept):
            parts.append(heading("Removed documents") + removed)
    if "quarantine" in there and (quarantined := quarantine_section(run)):
        parts.append(heading("Quarantine") + quarantined)
    if languages := _languages(run)[:30]:
        shown = [(s, lang, f"{d:,}", f"{b:,}") for s, lang, d, b in languages]
        parts.append(heading("Curated text") + table(["source", "language", "documents", "bytes"], shown, (2, 3)))
    decisions = read_json_if_there(run.decisions) or {}
    card = read_json_if_there(storage.join(run.quality, "quality.json")) if "quality" in there else None
    if card:
        scores = decisions.get("quality_scores", {})
        parts.append(heading("Quality classifier"))
        found = (scores.get("histogram", []), scores.get("threshold"), scores.get("not_measured", 0))
        parts.append(quality_section(card, *found, scores.get("percentile"), scores.get("languages", [])))
    if "classify" in there and (trained := _trained_classifiers(run)):
        parts.append(heading("Classifiers trained in the run") + trained_section(trained))
    if labels := decisions.get("labels"):
        parts.append(heading("What the classifiers say") + labels_section(labels))
    if numbers := decisions.get("distributions"):
        parts.append(heading("Perplexity by language") + distributions_section(numbers))
    dedup = read_json_if_there(run.path("dedup", "report.json"))
    if dedup:
        parts.append(heading("Duplicates") + dedup_section(dedup))
    if rows:
        parts.append(heading("Training") + training_section(rows, summary.get("unigram_nats")))
    if PIPELINE in there and (pipeline := read_pipeline(run.uri)) is not None:
        parts.append(pipeline_section(*pipeline))
    if summary.get("tokens"):
        entries = [(key.replace("_", " "), value) for key, value in summary["tokens"].items()]
        parts.append(
            heading("Tokens")
            + table(["", ""], [(k, number(v) if isinstance(v, int | float) else v) for k, v in entries], (1,))
        )
    tokenizer = read_json_if_there(storage.join(run.tokenizer, CARD_FILE))
    if tokenizer:
        fertility = read_json_if_there(storage.join(run.tokenizer, FERTILITY_FILE)) or []
        parts.append(heading("Tokenizer") + tokenizer_section(tokenizer, fertility, summary.get("tokens", {})))
    if summary.get("vocabulary"):
        parts.append(heading("Text outside the vocabulary") + vocabulary_section(summary["vocabulary"]))
    if summary.get("samples"):
        parts.append(heading("Samples") + samples_section(summary["samples"]))
    stages = {
        n.removesuffix(".json"): storage.read_json(run.path("work", "stages", n))
        for n in storage.listdir(run.path("work", "stages"))
    }
    if stages:
        parts.append(heading("Throughput") + throughput_section(stages, rows))
    settings = storage.read_bytes(run.config).decode() if "config.yaml" in there else None
    if hours := hours_section(diary, _price(settings)):
        parts.append(heading("Machines and hours") + hours)
    sample = read_json_if_there(run.path("sample.json")) if "sample.json" in there else None
    if sample or summary:
        parts.append(heading("Generated text") + generated_section(sample or []))
    if settings is not None:
        pre = f"<pre>{text(settings)}</pre>"
        parts.append(heading("Configuration") + f"<details><summary>config.yaml</summary>{pre}</details>")
    body = "".join(parts)
    return page(name, head + contents(body) + body)


def _price(settings: str | None) -> float | None:
    """`plan.price_per_hour` of config.yaml."""
    try:
        found = yaml.safe_load(settings or "") or {}
        return None if (price := found["plan"]["price_per_hour"]) is None else float(price)
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        return None


def generated_section(sample: list[dict[str, str]]) -> str:
    """How the model continues some beginnings, and which model that was."""
    if not sample:
        return "<p class=muted>There is none: its generation failed, as the log of the run says.</p>"
    models = sorted({s["checkpoint"] for s in sample if "checkpoint" in s})
    head = f"<p class=muted>of {text(', '.join(models))}</p>" if models else ""
    return head + "".join(f"<pre><b>{text(s['prompt'])}</b>{text(s['text'])}</pre>" for s in sample)


def newest(rows: list[dict[str, Any]], key: str) -> float | None:
    """The last value of a metric that not every step has."""
    return next((row[key] for row in reversed(rows) if row.get(key) is not None), None)


def main(argv: list[str]) -> int:
    """Write the page of any run: one that goes on, that failed, that only curated."""
    from raypt.run.status import existing_run

    parser = argparse.ArgumentParser(prog="raypt report", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--out", help="default: report.html in the run directory")
    args = parser.parse_args(argv)
    run = existing_run(args.run)
    built = build_report(run, run.uri.rsplit("/", 1)[-1]).encode()
    out = storage.absolute(args.out) if args.out else run.path("report.html")
    storage.write_bytes(out, built)
    print(out)
    return 0
