"""Compare runs: where their configurations differ, what became of the documents, losses over tokens in one picture.

    raypt compare RUN RUN ... [--out compare.html]

Prints the table and writes the page. Losses are of the training text of each run; where the tokenizers differ, compare
bits a byte of held-out text.
"""

import argparse
from typing import Any

import yaml

from raypt import storage
from raypt.charts import Series, line_chart, number, smoothed
from raypt.config_io import differences
from raypt.html import heading, page, table, text
from raypt.outside import redacted
from raypt.run.status import existing_run
from raypt.run_dir import RunDir
from raypt.training.records import read_metrics

Figures = dict[str, str]


def name_of(run: RunDir) -> str:
    """The last part of its directory."""
    return run.uri.rsplit("/", 1)[-1]


def configurations(runs: list[RunDir]) -> list[tuple[str, ...]]:
    """(key, value in each run) where not all are the same."""
    trees = [redacted(yaml.safe_load(storage.read_bytes(run.config))) for run in runs]
    keys: dict[str, None] = {}
    for other in trees[1:]:
        keys |= dict.fromkeys(key for key, _, _ in differences(trees[0], other))
    return [(key, *(_value(tree, key) for tree in trees)) for key in keys if not key.startswith("run.")]


def _value(tree: Any, key: str) -> str:
    for part in key.replace("[", ".[").split("."):
        try:
            tree = tree[int(part[1:-1])] if part.startswith("[") else tree[part]
        except (KeyError, IndexError, TypeError):
            return "–"
    return str(tree)


def figures(run: RunDir) -> Figures:
    """What is compared of a run, in order."""
    out: Figures = {}
    if storage.exists(run.path("summary.json")):
        headline = storage.read_json(run.path("summary.json")).get("headline", {})
        out |= {label: number(value) for label, value in headline.items()}
    if storage.exists(run.ledger):
        stages = storage.read_json(run.ledger)["stages"]
        out |= {f"left after {name}": f"{stage['kept']['documents']:,}" for name, stage in stages.items()}
    rows = read_metrics(run.uri)
    if rows:
        speeds = sorted(row["tokens_per_s"] for row in rows)
        out["tokens/s (median step)"] = f"{speeds[len(speeds) // 2]:,.0f}"
        for key, label in (("heldout_loss", "held-out loss"), ("heldout_bits_per_byte", "held-out bits a byte")):
            value = next((row[key] for row in reversed(rows) if row.get(key) is not None), None)
            if value is not None:
                out[label] = f"{value:.4f}"
    return out


def curves(runs: list[RunDir]) -> str:
    """Loss over tokens, smoothed, and held-out bits a byte."""
    trained, judged = [], []
    for run in runs:
        rows = [row for row in read_metrics(run.uri) if row.get("loss") is not None]
        if rows:
            losses = smoothed([row["loss"] for row in rows])
            trained.append(Series(name_of(run), [row["tokens"] for row in rows], losses))
        seen = [row for row in rows if row.get("heldout_bits_per_byte") is not None]
        if seen:
            values = [row["heldout_bits_per_byte"] for row in seen]
            judged.append(Series(name_of(run), [row["tokens"] for row in seen], values, marks=True))
    out = line_chart(trained, title="Loss, smoothed", x_label="tokens", y_label="nats a token", width=900, height=340)
    if judged:
        out += line_chart(judged, title="Held-out text", x_label="tokens", y_label="bits a byte", width=900, height=300)
    return out


def main(argv: list[str]) -> int:
    """Print the comparison and write its page."""
    parser = argparse.ArgumentParser(
        prog="raypt compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directories, two or more")
    parser.add_argument("--out", default="compare.html", help="default: %(default)s")
    args = parser.parse_args(argv)
    if len(args.runs) < 2:
        parser.error("two runs or more are compared")
    runs = [existing_run(uri) for uri in args.runs]
    settings, found = configurations(runs), [figures(run) for run in runs]
    keys = list(dict.fromkeys(key for one in found for key in one))
    rows = [(key, *(one.get(key, "–") for one in found)) for key in keys]
    names = [name_of(run) for run in runs]
    for title, lines in (("settings that differ", settings), ("figures", rows)):
        print(f"\n{title}: {'  '.join(names)}" if lines else f"\n{title}: none")
        for line in lines:
            print("  " + "  ".join(line))
    body = f"<h1>{text(' / '.join(names))}</h1>" + curves(runs)
    numeric = range(1, len(runs) + 1)
    body += heading("Figures") + table(("", *names), rows, list(numeric))
    body += heading("Settings that differ") + table(("key", *names), settings)
    storage.write_bytes(storage.absolute(args.out), page("Comparison", body).encode())
    print(f"\n{args.out}")
    return 0
