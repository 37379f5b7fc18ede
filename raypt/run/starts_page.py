"""What the report says of a run's starts: how it stands, when, with what and on what it was made, and what failed."""

import time

from raypt.durations import duration
from raypt.html import text
from raypt.lease import holder_of
from raypt.run.diary import Start, now, starts
from raypt.run.open import LEASE
from raypt.run_dir import RunDir


def starts_section(run: RunDir, *, running: bool | None = None) -> str:
    """The lines below the title. `running`: whether a job works on the run; None: its lease tells."""
    diary = starts(run)
    if not diary:
        return ""
    last = diary[-1]
    if running is None:
        running = last.ended is None and holder_of(run.path(*LEASE)) is not None
    return f"<p>{_state(run, last, running=running)}</p>" + _made(diary) + ("" if running else _failure(last))


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
        return (
            f"<b>Running{text(where)}</b>, at {_clock(at)}. A running job writes this page after each stage and every "
            "five minutes or so; where that is long ago, <code>raypt status</code> says what became of it."
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
