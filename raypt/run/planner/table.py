"""The answer as text for a terminal."""

from collections.abc import Sequence

from raypt.run.planner.answer import Answer, best_yaml, describe
from raypt.run.planner.search import Plan
from raypt.run.planner.shape import Layout

HEAD = (
    "mesh dxtxpxc", "ZeRO", "micro", "accum.", "checkpointing", "GB", "fits", "s a step", "tokens/s/dev", "MFU",
    "bubble", "days", "cost",
)  # fmt: skip


def mesh(layout: Layout) -> str:
    """Data x tensor x pipeline x context, in one word."""
    return "x".join(str(n) for n in (layout.data, layout.tensor, layout.pipeline, layout.context))


def cells(plan: Plan) -> tuple[str, ...]:
    """A plan as a row below HEAD."""
    layout = plan.layout
    fits = ("yes" if plan.runs else "yes *") if plan.fits else f"no: {plan.memory.largest}"
    return (
        mesh(layout), str(layout.zero), str(layout.micro_batch), str(layout.accumulation), layout.checkpointing,
        f"{plan.memory.total / 1e9:.1f}", fits, f"{plan.step_s:.3g}", f"{plan.tokens_per_s_per_device:,.0f}",
        f"{plan.mfu:.1%}", f"{plan.bubble:.1%}" if plan.bubble else "-", f"{plan.days:.3g}",
        "-" if plan.cost is None else f"{plan.cost:,.0f}",
    )  # fmt: skip


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with its columns aligned."""
    every = [head, *rows]
    widths = [max(len(r[i]) for r in every) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(r, widths, strict=True)).rstrip() for r in every)


def _size(n: float) -> str:
    for limit, unit in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if n >= limit:
            return f"{n / limit:.3g} {unit}"
    return f"{n:.0f} B"


def text(found: Answer) -> str:
    """What `raypt plan` prints."""
    machines, job, best = found.machines, found.job, found.best
    assert best is not None and found.data is not None and found.up is not None
    lines = [
        f"{job.shape.parameters:,} parameters, {job.tokens:,} tokens in {job.steps:,} steps of {job.batch_tokens:,}",
        f"{machines.nodes} x {machines.per_node} {machines.device.name} ({machines.how}); {machines.device.measured}",
        "",
        columns(HEAD, [cells(p) for p in found.plans[: found.config.plan.top]]),
    ]
    if any(not p.runs for p in found.plans):
        lines.append("* a mesh that raypt pretrain cannot run")
    fitting = sum(p.fits for p in found.plans)
    lines.append(f"{fitting} of {len(found.plans)} layouts fit.")
    parts = {k: v for k, v in best.memory.to_json().items() if k != "total"}
    lines += [
        "",
        "a device's memory, of the best: " + ", ".join(f"{name} {_size(n)}" for name, n in parts.items()),
        "a step, of the best: " + ", ".join(
            f"{name} {float(getattr(best.seconds, name)):.3g} s"
            for name in ("products", "attention", "traffic", "tensor", "exposed", "bubble", "overhead")
            if float(getattr(best.seconds, name))
        ) + (f", waiting for data {best.data_wait_s:.3g} s" if best.data_wait_s else ""),
    ]  # fmt: skip
    if found.own is not None:
        fits = "fits" if found.own.fits else f"does not fit: {found.own.too_big}"
        lines.append(f"as configured ({describe(found.own.layout)}): {found.own.step_s:.3g} s a step; {fits}")
    data, up = found.data, found.up
    hours = ", ".join(f"{name} {h:,.1f}" for name, h in data.cpu_hours.items())
    stored = ", ".join(f"{name} {_size(n)}" for name, n in data.storage_bytes.items())
    faults = "never" if up.between_faults_s == float("inf") else f"every {up.between_faults_s / 3600:,.1f} h"
    lines += [
        "",
        f"data: {_size(data.raw_bytes)} of raw text; CPU core hours: {hours}",
        f"      {data.cores_before:,.1f} cores curate it in a tenth of the training's time, "
        f"{data.cores_beside:,.1f} cores tokenize as fast as it trains; "
        f"{_size(data.network_bytes_per_s)}/s of samples a node",
        f"      storage: {stored}",
        f"faults: {faults}; a checkpoint of {_size(up.checkpoint_bytes)} takes {up.written_s:,.0f} s and interrupts "
        f"for {up.interrupts_s:.1f} s;",
        f"      best every {up.interval_steps:,} steps ({up.interval_s:,.0f} s; Daly 2006): {up.goodput:.1%} of the "
        "time is new steps",
        "",
    ]
    for f in found.findings:
        value = "-" if f.value is None else f"{f.value:.3g}"
        mark = "  " if f.inside else "! "
        remark = f"; {f.remark}" if f.remark else ""
        lines.append(
            f"{mark}{f.name}: {value} (expected {f.low:.3g} to {f.high:.3g}; {f.source}; {f.uncertainty}{remark})"
        )
    return "\n".join([*lines, "", "the best, for raypt pretrain:", best_yaml(found)])
