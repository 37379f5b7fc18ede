"""What a pipeline's ranks did in one step, as the textbooks draw it: as it was, and as it would be ideally."""

from collections.abc import Mapping, Sequence

from raypt.charts import COLOURS, Span, span_chart
from raypt.html import table, text
from raypt.parallel.pipeline.record import StepRecord
from raypt.parallel.pipeline.schedule import Action, Kind

KINDS: dict[Kind, str] = {"forward": COLOURS[0], "backward": COLOURS[2], "weight": COLOURS[3]}
NAMES: dict[Kind, str] = {"forward": "forward", "backward": "backward", "weight": "gradients of weights"}
DRAWN = 4000
"""Actions in a picture; of a longer step, the beginning is drawn."""


def pipeline_section(step: int, record: StepRecord) -> str:
    """The picture, and in figures: idle shares, activations."""
    each = DRAWN // len(record.devices)
    order = [[taken.action for taken in device[:each]] for device in record.devices]
    began = record.begin  # looks at every action
    was = {t.action: (t.begin - began, t.end - began) for device in record.devices for t in device}
    ideal = record.ideal()
    until = max(record.span, ideal.end)
    if any(len(device) > each for device in record.devices):
        until = max(was[actions[-1]][1] for actions in order)
    kinds = dict.fromkeys(action.kind for actions in order for action in actions)
    titles = (
        ("As it was", was),
        ("With every action of its kind's mean length, and nothing to wait for between", ideal.spans),
    )
    charts = [
        span_chart(
            _rows(order, spans, record.virtual),
            title=title,
            unit="milliseconds",
            until=1000 * until,
            legend=[(NAMES[kind], KINDS[kind]) for kind in kinds],
        )
        for title, spans in titles
    ]
    parts = f", {record.virtual} parts each" if record.virtual > 1 else ""
    said = (
        f"{record.schedule}, {len(record.devices)} workers{parts}, {record.micro_batches} micro-batches (their numbers "
        f"in the picture{'; a worker&#39;s later parts are paler' if parts else ''}): idle for "
        f"{record.idle_share:.1%} of the step; {record.as_cut().idle_share:.1%} if each part's actions took their mean "
        f"length and sending nothing, {ideal.idle_share:.1%} with equal parts, as below, {record.idle_formula:.1%} by "
        "the formula."
    )
    workers = [
        (f"worker {i}", " + ".join(map(str, layers)), f"{1000 * busy:,.0f}", f"{peak / 1e6:,.2f}")
        for i, (layers, busy, peak) in enumerate(zip(record.layers, record.busy, record.peak_bytes, strict=True))
    ]
    return f"<h3>The pipeline in step {step}</h3><p>{said}</p>{''.join(charts)}" + table(
        ["", "layers", "busy, ms", "most activations at one time, MB"], workers, (1, 2, 3)
    )


def _rows(
    order: Sequence[Sequence[Action]], spans: Mapping[Action, tuple[float, float]], virtual: int
) -> list[tuple[str, list[Span]]]:
    rows = []
    for device, actions in enumerate(order):
        drawn = []
        for action in actions:
            begin, end = spans[action]
            strength = 1 - 0.6 * (action.part // len(order)) / virtual
            drawn.append(Span(1000 * begin, 1000 * end, str(action.micro), KINDS[action.kind], strength))
        rows.append((text(f"worker {device}"), drawn))
    return rows
