"""What the report says of a run's starts: how it stands, when, with what and on what it was made, and what failed."""

import time

from raypt.durations import duration
from raypt.html import table, text
from raypt.lease import holder_of
from raypt.run.diary import Start, ahead_of, now
from raypt.run.open import LEASE
from raypt.run_dir import RunDir

HOURS = {
    "seconds": "hours",
    "gpu_s": "GPU hours reserved",
    "gpu_there_s": "GPU hours there",
    "cpu_s": "CPU hours reserved",
    "cpu_there_s": "CPU hours there",
}
"""Key of a stage's account -> what its column is called."""


def starts_section(run: RunDir, diary: list[Start], *, running: bool | None = None) -> str:
    """The lines below the title, of the run's starts. `running`: whether a job works on it; None: its lease tells."""
    if not diary:
        return ""
    last = diary[-1]
    if running is None:
        running = last.ended is None and holder_of(run.path(*LEASE)) is not None
    return f"<p>{_state(run, last, running=running)}</p>" + _made(diary) + ("" if running else _failure(last))


def hours_section(diary: list[Start], price: float | None) -> str:
    """The cluster's machines, device hours by stage of all starts, and what they cost. `price`: of an hour of a GPU, or
    of a CPU where there is none. Empty where no cluster was seen.
    """
    seen = [start.use for start in diary if start.use]
    if not seen:
        return ""
    stages: dict[str, dict[str, float]] = {}
    for use in seen:
        for name, of in use["stages"].items():
            sums = stages.setdefault(name, {})
            for key, value in of.items():
                sums[key] = sums.get(key, 0.0) + value
    total = {key: sum(of.get(key, 0.0) for of in stages.values()) for key in HOURS}
    devices = [device for device in ("gpu", "cpu") if total[f"{device}_there_s"]]
    keys = ["seconds", *(f"{device}{which}" for device in devices for which in ("_s", "_there_s"))]
    rows = [(name, *(f"{of.get(key, 0.0) / 3600:,.2f}" for key in keys)) for name, of in stages.items()]
    rows.append(("in all", *(f"{total[key] / 3600:,.2f}" for key in keys)))
    machines = ", ".join(f"{count:,} x ({machine})" for machine, count in seen[-1]["machines"])
    out = f"<p>Cluster, at its largest in the last start: {text(machines)}.</p>"
    out += table(["stage", *(HOURS[key] for key in keys)], rows, range(1, 1 + len(keys)))
    if price is not None and devices:
        device = devices[0]
        reserved, there = (price * total[f"{device}{which}"] / 3600 for which in ("_s", "_there_s"))
        out += (
            f"<p>At {price:,g} an hour of a {device.upper()} (plan.price_per_hour): <b>{reserved:,.2f}</b> for what "
            f"was reserved, {there:,.2f} for all that was there.</p>"
        )
    return out + (
        "<p class=muted>Of all starts, looked at every few seconds. Reserved is what Ray had given to tasks, actors "
        "and workers, on a shared cluster those of other jobs too; a start that was killed counts up to its last "
        "page.</p>"
    )


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


def _state(run: RunDir, last: Start, *, running: bool) -> str:
    """How the run stood when the page was written."""
    at = time.time()
    if running:
        stage = now(run) or {}
        where = (
            f", in stage {stage['stage']} for {duration(at - stage['started'])}"
            if {"stage", "started"} <= set(stage)
            else ""
        )
        ahead = ahead_of(stage)
        left = f", about {duration(ahead[0])} before {'its end' if ahead[1] else 'it trains'}" if ahead else ""
        return (
            f"<b>Running{text(where)}{text(left)}</b>, at {_clock(at)}. A running job writes this page after each "
            "stage and every five minutes or so; where that is long ago, <code>raypt status</code> says what became of "
            "it."
        )
    if last.ended is None:
        return f"<b>Was killed</b> without a word, begun {_clock(last.started)}. The same command resumes."
    how = {"mistake": "refused"}.get(last.status, last.status).capitalize()
    return f"<b>{text(how)}</b> at {_clock(last.ended)}, after {duration(last.ended - last.started)}."


def _made(diary: list[Start]) -> str:
    last = diary[-1]
    wall = sum(s.seconds or 0.0 for s in diary)
    made = [
        f"begun {_clock(last.started)}",
        f"raypt {last.raypt}" + (f" ({last.commit})" if last.commit else ""),
        f"Python {last.python}",
        *(f"{name} {version}" for name, version in last.packages.items()),
        f"driver on {last.host}, {last.cpus} CPUs, {last.memory_bytes / 2**30:.0f} GiB",
        f"{len(diary)} start{'s' * (len(diary) > 1)}"
        + (f", {wall / 3600:.2f} hours in those that ended" if wall else ""),
    ]
    return f"<p class=muted>{text('; '.join(made))}</p><p class=muted><code>{text(last.command)}</code></p>"


def _failure(last: Start) -> str:
    if last.status not in ("failed", "mistake") or not last.error:
        return ""
    where = f" in stage {last.stage}" if last.stage else ""
    what = "ended with an error" if last.status == "failed" else "was refused"
    out = f"<p><b>The last start {what}{text(where)}.</b> The same command resumes once it is mended.</p>"
    if last.remedy:
        out += f"<p><b>What to do:</b> {text(last.remedy)}</p>"
    return out + f"<pre>{text(last.error)}</pre>"
