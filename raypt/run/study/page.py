"""study.html: the answer first, then what it rests on."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from raypt.charts import Series, line_chart, number
from raypt.html import cards, heading, table, text
from raypt.html import page as html_page
from raypt.run.study.answer import Answer
from raypt.run.study.config import StudyConfig
from raypt.run.study.data import Heldout, Workshop
from raypt.run.study.results import Trial

CURVES = 6
"""Variants whose curves are drawn."""
ANSWER = """
.answer{font-size:21px;line-height:1.35;font-weight:600;margin:14px 0 6px}
.interval{font-size:16px;margin:0 0 18px}
@media (max-width:600px){.answer{font-size:18px}}
"""


def page(
    config: StudyConfig, answer: Answer, trials: Sequence[Trial], steps: pa.Table, runs: pa.Table, costs: dict[str, str]
) -> str:
    """Self-contained HTML."""
    title = config.study.question or config.study.name
    head = (
        f"<h1>{text(title)}</h1>"
        f"<p class=answer>{text(answer.sentence)}</p><p class=interval>{text(answer.interval)}</p>{answer.picture}"
    )
    wanted = ("variant", "seed", "parameters", "tokens", "epochs", "documents", "loss", "bits_per_byte")
    columns = [name for name in wanted if name in runs.column_names]
    rows = [
        [_cell(row[name], name) for name in columns]
        for row in sorted(runs.to_pylist(), key=lambda r: r["bits_per_byte"])
    ]
    body = [
        head,
        answer.more,
        heading("In detail") + "<pre>" + text("\n".join(answer.lines)) + "</pre>" if answer.lines else "",
        heading("Held-out loss while training") + _curves(steps),
        heading("Trainings") + table(columns, rows, range(1, len(columns))),
        heading("What it cost") + cards([(value, name) for name, value in costs.items()]),
    ]
    return html_page(title, "".join(body), style=ANSWER)


def _cell(value: object, name: str) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if name in ("loss", "bits_per_byte") else number(value)
    return number(value) if isinstance(value, int) and name != "seed" else str(value)


def _curves(steps: pa.Table) -> str:
    """Bits per byte over tokens, mean over seeds, of the first variants."""
    if "heldout_bits_per_byte" not in steps.column_names:
        return "<p>train.evaluation was off.</p>"
    curves: dict[str, dict[int, list[float]]] = {}
    for row in steps.select(["variant", "step", "tokens", "heldout_bits_per_byte"]).to_pylist():
        if row["heldout_bits_per_byte"] is not None:
            curves.setdefault(row["variant"], {}).setdefault(row["tokens"], []).append(row["heldout_bits_per_byte"])
    series = [
        Series(name, sorted(c), [sum(c[k]) / len(c[k]) for k in sorted(c)], marks=True)
        for name, c in list(curves.items())[:CURVES]
    ]
    more = f"<p class=muted>The first {CURVES} of {len(curves)} variants.</p>" if len(curves) > CURVES else ""
    return line_chart(series, title="Held-out bits per byte", x_label="tokens", y_label="bits per byte") + more


def costs(
    workshop: Workshop, heldout: Heldout, trials: Sequence[Trial], accounts: Sequence[dict[str, Any]], wall: float
) -> dict[str, str]:
    """What a study took, and what sharing saved."""
    distinct = len({t.training.identity.key for t in trials})
    made, steps = sum(a["made_steps"] for a in accounts), sum(a["steps"] for a in accounts)
    contaminated = sum(side.contaminated for side in workshop.sides.values())
    return {
        "trainings, each made once": f"{distinct} of {len(trials)}",
        "documents read and tagged": f"{sum(workshop.documents.values()):,}",
        "curated texts": str(len(workshop.sides)),
        "held-out documents": f"{heldout.card.account['documents']:,}",
        "documents removed as they hold one": f"{contaminated:,}",
        "steps made, of those that the trainings have": f"{made:,} of {steps:,}",
        "seconds of steps": f"{sum(a['seconds'] for a in accounts):,.1f}",
        "seconds of trainings, evaluated and judged": f"{sum(a['task_seconds'] for a in accounts):,.1f}",
        "seconds of this start": f"{wall:,.1f}",
    }
