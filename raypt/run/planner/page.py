"""The answer as a page with pictures: memory by part, a roofline, the ranking. Self-contained."""

import math

from raypt.charts import COLOURS, Series, bar_chart, line_chart
from raypt.html import cards, contents, heading, table
from raypt.html import page as html_page
from raypt.html import text as escaped
from raypt.run.planner.answer import Answer, best_yaml, describe
from raypt.run.planner.goodput import StayingUp
from raypt.run.planner.search import Plan
from raypt.run.planner.table import HEAD, cells, mesh

PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "buffers", "margin")


def _memory(plan: Plan, title: str) -> str:
    rows = [
        (name, float(getattr(plan.memory, name)) / 1e9, f"{getattr(plan.memory, name) / 1e9:.2f} GB") for name in PARTS
    ]
    rows.append(("total", plan.memory.total / 1e9, f"{plan.memory.total / 1e9:.2f} GB"))
    if plan.capacity:
        rows.append(("the device", plan.capacity / 1e9, f"{plan.capacity / 1e9:.2f} GB"))
    colours = [*(COLOURS[i % len(COLOURS)] for i in range(len(PARTS))), "#6e7781", "#afb8c1"]
    return f"<p>{escaped(title)}: {escaped(describe(plan.layout))}</p>" + bar_chart(
        rows, title="Memory of a device", colours=colours[: len(rows)]
    )


def _short(plan: Plan) -> str:
    """A layout in the words of the ranking's table."""
    layout = plan.layout
    return f"{mesh(layout)}, ZeRO {layout.zero}, {layout.micro_batch} x {layout.accumulation}, {layout.checkpointing}"


def _faults(up: StayingUp) -> list[tuple[str, str]]:
    between = up.between_faults_s
    return [
        ("a checkpoint", f"{up.checkpoint_bytes / 1e9:,.1f} GB"),
        ("interrupts training for", f"{up.interrupts_s:.2g} s"),
        ("is whole in storage after", f"{up.written_s:,.0f} s"),
        ("a fault every", "never" if math.isinf(between) else f"{between / 3600:,.1f} h"),
        ("best every", f"{up.interval_steps:,} steps, {up.interval_s:,.0f} s"),
        ("goodput", f"{up.goodput:.2%}"),
    ]


def roofline(found: Answer, best: Plan) -> str:
    """Attainable TFLOP/s by FLOPs a byte of memory traffic, and where the products of this run's block lie."""
    device, shape, layout = found.machines.device, found.job.shape, best.layout
    ridge = device.flops / device.bandwidth
    x = [ridge * 2**i for i in range(-6, 7)]
    roof = [min(device.flops, device.bandwidth * intensity) / 1e12 for intensity in x]
    m, e = layout.micro_tokens, layout.element
    xs, ys = [], []
    widths = {"q_proj": shape.attention_width, "k_proj": shape.kv_width, "up_proj": shape.intermediate}
    for width in sorted({w // layout.tensor for w in widths.values()}):
        flops, moved = 2 * m * shape.hidden * width, e * (m * shape.hidden + shape.hidden * width + m * width)
        xs.append(math.log2(flops / moved))
        ys.append(min(device.flops, device.bandwidth * flops / moved) / 1e12)
    return line_chart(
        [
            Series("roof", [math.log2(v) for v in x], roof),
            Series("products", xs, ys, marks=True),
        ],
        title=f"Roofline of {device.name}",
        x_label="log2 of FLOP a byte",
        y_label="TFLOP/s",
        log_y=True,
        levels=[("reached", best.mfu * best.flops / 1e12)],
    )


def page(found: Answer) -> str:
    """HTML of the whole answer."""
    best, machines = found.best, found.machines
    assert best is not None and found.up is not None and found.data is not None
    shown = found.plans[: found.config.plan.top]
    top = [
        (f"{found.job.shape.parameters:,}", "parameters"),
        (f"{found.job.tokens:,}", "tokens"),
        (f"{machines.nodes} x {machines.per_node} {machines.device.name}", "machines"),
        (f"{best.days:.3g}", "days"),
        (f"{best.mfu:.1%}", "MFU"),
        (f"{found.up.goodput:.1%}", "goodput"),
        *([(f"{best.cost:,.0f}", "cost")] if best.cost is not None else []),
    ]
    ranking = [(_short(p), p.tokens_per_s_per_device, f"{p.tokens_per_s_per_device:,.0f}") for p in shown if p.fits]
    smallest_misfit = next((p for p in found.plans if not p.fits), None)
    pictures = _memory(best, "The best")
    if smallest_misfit is not None:
        pictures += _memory(smallest_misfit, "The smallest that does not fit")
    data = found.data
    rows = [(name, f"{hours:,.1f} core hours") for name, hours in data.cpu_hours.items()]
    rows += [(name, f"{size / 1e9:,.1f} GB stored") for name, size in data.storage_bytes.items()]
    rows += [
        ("cores to curate in a tenth of the training's time", f"{data.cores_before:,.1f}"),
        ("cores to tokenize as fast as it trains", f"{data.cores_beside:,.1f}"),
    ]
    sense = [
        (f.name, "-" if f.value is None else f"{f.value:.3g}", f"{f.low:.3g} to {f.high:.3g}", f.remark)
        for f in found.findings
    ]
    papers = "".join(
        f"<p class=muted>{escaped(f.name)}: {escaped(f.source)}; {escaped(f.uncertainty)}</p>" for f in found.findings
    )
    sources = f"{escaped(machines.device.source)}; {escaped(machines.device.measured)}"
    head = f"<h1>Plan</h1><p class=muted>{sources}</p>" + cards(top)
    body = [
        heading("Ranking"), bar_chart(ranking, title="Tokens a second and device, by d x t x p x c"),
        table(HEAD, [cells(p) for p in shown], numeric=(1, 2, 3, 5, 7, 8, 9, 10, 11, 12)),
        heading("Memory"), pictures,
        heading("Speed"), roofline(found, best),
        heading("Data side"), table(("what", "how much"), rows, numeric=(1,)),
        heading("Faults"), table(("what", "value"), _faults(found.up), numeric=(1,)),
        heading("Is the run sensible"),
        table(("figure", "this run", "expected", "remark"), sense, numeric=(1,)), papers,
        heading("The best, for raypt pretrain"), f"<pre>{escaped(best_yaml(found))}</pre>",
    ]  # fmt: skip
    joined = "".join(body)
    return html_page("Plan", head + contents(joined) + joined)
