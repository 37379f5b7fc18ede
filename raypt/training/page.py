"""What training shows in the report: losses, speed, the parts of a step, what it waited for."""

import statistics
from dataclasses import replace
from typing import Any

from raypt.charts import SPAN, Series, bar_chart, line_chart, smoothed
from raypt.html import table, text

STEP_PARTS = ("forward", "backward", "update", "communication")
SPEED_SHARES = (
    ("MFU: of the stated peak", "mfu_stated"),
    ("Of a timed matrix product (no MFU)", "matmul_share"),
)
"""Never in one picture: the second is high on a machine that was busy when it was timed."""


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


def x_axis(rows: list[dict[str, Any]]) -> str:
    """What training is drawn over: tokens, by which runs of other batch sizes are compared, if every row has them."""
    return "tokens" if all("tokens" in row for row in rows) else "step"


def _series(rows: list[dict[str, Any]], name: str, key: str, **options: Any) -> Series:
    x, have = x_axis(rows), [row for row in rows if row.get(key) is not None]
    return Series(name, [row[x] for row in have], [row[key] for row in have], **options)


def _with_mean(series: Series) -> list[Series]:
    """A line, and before it its running mean where there are enough steps for one."""
    span = max(SPAN, len(series.x) // 100)
    if len(series.x) <= span:
        return [series]
    return [replace(series, faint=True), Series(f"mean of about {span} steps", series.x, smoothed(series.y, span))]


def _small(rows: list[dict[str, Any]], series: list[Series], title: str, unit: str = "", **options: Any) -> str:
    return line_chart(series, title=title, x_label=x_axis(rows), y_label=unit, width=440, height=220, **options)


def _loss(rows: list[dict[str, Any]], unigram_nats: float | None) -> str:
    """Loss, its running mean where there are enough steps for one, and held-out loss."""
    losses = [*_with_mean(_series(rows, "training", "loss")), _series(rows, "held-out", "heldout_loss", marks=True)]
    levels = [("unigram entropy", unigram_nats)] if unigram_nats is not None else []
    x = x_axis(rows)
    return line_chart(losses, title="Loss", x_label=x, y_label="nats a token", levels=levels, width=900, height=340)


def training_section(rows: list[dict[str, Any]], unigram_nats: float | None) -> str:
    """Loss against the unigram entropy of the text, held-out loss, learning rate, gradient norm, speed, waiting."""
    steps = [r["step"] for r in rows]
    assert steps == sorted(steps), "metrics.jsonl is not in the order of steps"
    small = [_small(rows, [_series(rows, "learning rate", "lr")], "Learning rate")]
    small += [
        _small(rows, _with_mean(_series(rows, "each step", key)), name, unit)
        for name, key, unit in (
            ("Gradient norm", "grad_norm", ""),
            ("Tokens per second", "tokens_per_s", "tokens/s"),
            ("Share of the step spent waiting for data", "data_wait_fraction", ""),
        )
    ]
    if any(row.get("stale_versions") is not None for row in rows):
        kinds = (
            ("updates missed, mean", "stale_versions"),
            ("most", "stale_versions_max"),
            ("steps ahead, most", "stale_steps"),
        )
        small.append(_small(rows, [_series(rows, name, key) for name, key in kinds], "Staleness of gradients"))
    if tasks := _tasks(rows):
        small.append(tasks)
    for title, key in SPEED_SHARES:
        if (share := _series(rows, "each step", key)).x:
            small.append(_small(rows, _with_mean(share), title, "share"))
    return (
        _loss(rows, unigram_nats)
        + f"<div class=row>{''.join(small)}{_pipeline(rows)}{_step_parts(rows)}</div>"
        + _sent(rows)
        + _data_wait(rows)
    )


def _pipeline(rows: list[dict[str, Any]]) -> str:
    """How much of the recorded steps the workers of a pipeline idled, beside what the schedule costs by itself."""
    have = [row for row in rows if row.get("pipeline_idle") is not None]
    if not have:
        return ""
    levels = [("formula", have[-1]["pipeline_idle_formula"])]
    title = "Share of the step that workers idle in the pipeline"
    return _small(rows, [_series(rows, "measured", "pipeline_idle", marks=True)], title, levels=levels)


def _tasks(rows: list[dict[str, Any]]) -> str:
    """Accuracy of the tasks asked while training, above what guessing gets."""
    asked = [r for r in rows if r.get("tasks")]
    if not asked:
        return ""
    last = asked[-1]["tasks"]
    lines, x = [], x_axis(rows)
    for name in last:
        have = [r for r in asked if name in r["tasks"]]
        lines.append(Series(name, [r[x] for r in have], [r["tasks"][name]["accuracy"] for r in have], marks=True))
    chances = sorted({figures["chance"] for figures in last.values()})
    levels = [("guessing", chances[0])] if len(chances) == 1 else []
    title = f"Task {next(iter(last))}" if len(last) == 1 else "Tasks"
    return _small(rows, lines, title, "share answered rightly", levels=levels)


def _sent(rows: list[dict[str, Any]]) -> str:
    """What a worker sent, for the strategies that count it."""
    counted = [row for row in rows if row.get("sent_bytes") is not None]
    if not counted:
        return ""
    total = sum(row["sent_bytes"] for row in counted)
    tokens = sum(row["step_s"] * row["tokens_per_s"] for row in counted)
    return (
        f"<p>Rank 0 sent {total / 1e6:,.1f} MB of gradients and weights in {len(counted):,} steps, "
        f"{total / tokens:,.1f} bytes a token of the global batch.</p>"
    )


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
