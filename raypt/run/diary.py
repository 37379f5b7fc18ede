"""What happened to a run: every start of a job in its directory, with what, on what, and how it ended; what it is at.

Two small writes a start, one a stage, one whenever a line of progress is due, and one with each page of a run that goes
on. Read by the report and by `raypt status`; nothing is decided by it.
"""

import logging
import os
import platform
import shlex
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import psutil

from raypt import __version__, storage
from raypt.cluster_use import USE
from raypt.durations import clock, duration
from raypt.errors import Terminated, UserError
from raypt.outside import redact
from raypt.progress import Done, watched
from raypt.run.failure import remedy, root_cause
from raypt.run_dir import RunDir

log = logging.getLogger("raypt")

DIARY = ("work", "diary")
NOW = ("work", "now.json")
PACKAGES = ("ray", "torch", "deepspeed", "pyarrow", "numpy")
SOON_S = 2.0
"""Of a stage on an object store, after which it is noted: most of a small run are over by then."""
MOST_ERROR = 4000
"""Characters of an error that are kept, the last ones."""


@dataclass(frozen=True)
class Start:
    """One start of a job."""

    job: str
    command: str
    started: float
    """Seconds since the epoch, as `ended`."""
    host: str
    cpus: int
    memory_bytes: int
    python: str
    raypt: str
    commit: str | None
    packages: dict[str, str] = field(default_factory=dict)
    ended: float | None = None
    status: str = "running"
    """running (or killed without a word), done, mistake, failed, interrupted, terminated."""
    error: str | None = None
    remedy: str | None = None
    """What to do about it, where it is the machines' (`raypt.run.failure.remedy`)."""
    stage: str | None = None
    """That it ended in, if it did not end well."""
    use: dict[str, Any] | None = None
    """The cluster and its device hours, as `raypt.cluster_use` tells them."""

    @property
    def seconds(self) -> float | None:
        return None if self.ended is None else self.ended - self.started


def commit() -> str | None:
    """The commit of the checkout that this code is of; None outside of one."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def here(job: str) -> Start:
    """This process as a start of a job."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return Start(
        job=job,
        command=redact(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])),
        started=time.time(),
        host=platform.node(),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=psutil.virtual_memory().total,
        python=platform.python_version(),
        raypt=__version__,
        commit=commit(),
        packages=packages,
    )


@dataclass
class Note:
    """The note of the start that is under way."""

    uri: str
    start: Start
    ended: bool = False

    def keep(self) -> None:
        """Write down what the cluster was used for by now: a driver that is killed has no time for it."""
        use = USE.to_json()
        if use is not None and not self.ended:
            storage.write_json(self.uri, asdict(replace(self.start, use=use)))


@contextmanager
def written_down(run: RunDir, job: str) -> Iterator[Note]:
    """Note the start of a job, and how the block ended."""
    start = here(job)
    USE.clear()
    name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(start.started))}-{uuid.uuid4().hex[:6]}.json"
    uri = run.path(*DIARY, name)
    storage.write_json(uri, asdict(start))
    _counted[run.uri] = len(storage.listdir(run.path(*DIARY)))
    _at.pop(run.uri, None)
    status, error, do = "done", None, None
    note = Note(uri, start)
    try:
        with watched(partial(progressed, run)):
            yield note
    except BaseException as e:
        status, error = _ending(e)
        do = remedy(root_cause(e)) if status == "failed" else None
        raise
    finally:
        with _at_lock:
            at = _at.pop(run.uri, None)
        stage = None if status == "done" or at is None else at.stage
        note.ended, ended, use = True, time.time(), USE.to_json()
        end = replace(start, ended=ended, status=status, error=error, remedy=do, stage=stage, use=use)
        storage.write_json(uri, asdict(end))


def _ending(e: BaseException) -> tuple[str, str | None]:
    if isinstance(e, UserError):
        return "mistake", redact(str(e))[-MOST_ERROR:]
    if isinstance(e, Terminated):
        return "terminated", None
    if isinstance(e, KeyboardInterrupt):
        return "interrupted", None
    return "failed", redact("".join(traceback.format_exception(e)))[-MOST_ERROR:]


_counted: dict[str, int] = {}
"""By run, how many starts there were when its last one in this process was noted."""


def count_of_starts(run: RunDir) -> int:
    """How often a job was started on this run, up to this one's start."""
    return _counted[run.uri] if run.uri in _counted else len(storage.listdir(run.path(*DIARY)))


@dataclass
class _At:
    """What a run of this process is at."""

    stage: str | None = None
    place: tuple[int, int] | None = None
    """Which of how many stages it is."""
    started: float = field(default_factory=time.time)
    tasks: dict[str, Done] = field(default_factory=dict)
    ahead: dict[str, Any] | None = None
    """When the run is going to end (`ends`, seconds since the epoch), or, if not `whole`, training to begin."""


class Ahead(Protocol):
    """What knows how long a run will still take."""

    @property
    def whole(self) -> bool: ...

    def left(self, told: Done | None = None) -> float | None: ...


outlooks: dict[str, Ahead] = {}
"""By run."""
_at: dict[str, _At] = {}
_at_lock = threading.Lock()
"""Tokenizing tells of its progress from a thread beside the stages."""


def stage_begins(run: RunDir, stage: str, place: tuple[int, int] | None = None) -> str | None:
    """Note what the run is at, and which of how many stages that is. What goes on beside them stays noted. How long the
    whole will still take, in words, if that is known."""
    with _at_lock:
        before = _at.get(run.uri, _At())
        at = _at[run.uri] = _At(stage, place, tasks=before.tasks)
        ahead = _look_ahead(run)
        if storage.is_local(run.uri):
            _note(run)
        else:
            later = threading.Timer(SOON_S, _note_if_still, (run, at))
            later.daemon = True
            later.start()
        return ahead


def _note_if_still(run: RunDir, at: _At) -> None:
    """Note it of a stage that is not over yet."""
    with _at_lock:
        if _at.get(run.uri) is at:
            _try_to_note(run)


def _look_ahead(run: RunDir, told: Done | None = None) -> str | None:
    """How long the run will still take, in words; noted too."""
    at, outlook = _at[run.uri], outlooks.get(run.uri)
    if outlook is None or at.place is None or (left := outlook.left(told)) is None:
        return None
    at.ahead = {"ends": time.time() + left, "whole": outlook.whole}
    return ahead_words(left, whole=outlook.whole)


def ahead_words(left_s: float, *, whole: bool) -> str:
    """How long a run will still take, for people."""
    return f"about {duration(left_s)} left {'of the whole' if whole else 'before training'}, to {clock(left_s)}"


def progressed(run: RunDir, told: Done) -> str | None:
    """Note how far a work of the run is; one that is done is noted no more. How long the whole will still take."""
    with _at_lock:
        at = _at.setdefault(run.uri, _At())
        at.tasks.pop(told.name, None)
        if told.done < told.total:
            at.tasks[told.name] = told
        ahead = _look_ahead(run, told)
        _try_to_note(run)
        return ahead


def _try_to_note(run: RunDir) -> None:
    try:
        _note(run)
    except OSError as e:
        log.debug("%s: %s", run.path(*NOW), e)  # what it is for goes on


def _note(run: RunDir) -> None:
    at = _at[run.uri]
    tasks = [told.to_json() for told in at.tasks.values()]
    note = {"stage": at.stage, "place": at.place, "started": at.started, "tasks": tasks, "ahead": at.ahead}
    storage.write_json(run.path(*NOW), note)


def now(run: RunDir) -> dict[str, Any] | None:
    """{stage, place, started, tasks, ahead} of the stage begun last, of the works that were told of and are not done,
    and of what is to come; None where nothing readable is noted."""
    try:
        found = storage.read_json(run.path(*NOW))
    except (FileNotFoundError, UserError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def ahead_of(at: dict[str, Any]) -> tuple[float, bool] | None:
    """Of what `now` found, how many seconds the run will still take, and whether that is the whole of it."""
    ahead = at.get("ahead")
    if not isinstance(ahead, dict) or not isinstance(ahead.get("ends"), int | float):
        return None
    return max(ahead["ends"] - time.time(), 0.0), bool(ahead.get("whole"))


def under_way(at: dict[str, Any]) -> list[Done]:
    """Of what `now` found, how far each work is. What cannot be read is left out."""
    tasks, found = at.get("tasks"), []
    for task in tasks if isinstance(tasks, list) else []:
        try:
            found.append(Done(**task))
        except TypeError:
            continue
    return found


def starts(run: RunDir) -> list[Start]:
    """All starts, in order. A note that cannot be read is left out: it is a diary, and no account."""
    names = sorted(storage.listdir(run.path(*DIARY)))
    known = {f.name for f in fields(Start)}
    found = []
    for raw in storage.in_parallel(lambda name: _read(run.path(*DIARY, name)), names):
        if isinstance(raw, dict):
            try:
                found.append(Start(**{k: v for k, v in raw.items() if k in known}))
            except TypeError:
                continue
    return found


def _read(uri: str) -> Any:
    try:
        return storage.read_json(uri)
    except (FileNotFoundError, UserError, ValueError):
        return None
