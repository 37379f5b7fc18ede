"""One directory holds one run: opened the first time, checked against what is there afterwards, one job at a time."""

import logging
from collections.abc import Iterator, Set
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import yaml

from raypt import metrics, storage, written
from raypt.artefact import hash_of
from raypt.config_io import differences, dump_yaml, validate
from raypt.errors import UserError
from raypt.lease import hold
from raypt.notify import notifying
from raypt.outside import redact, redacted
from raypt.run.config import RunConfig
from raypt.run.diary import DIARY, NOW, written_down
from raypt.run.live_page import kept_up
from raypt.run.stages import course, planned
from raypt.run_dir import RunDir

log = logging.getLogger("raypt")

MAY_CHANGE = (
    "ray",
    "run.dir",
    "run.verify",
    "run.notify",
    "run.record_samples",
    "tokens.export",
    "train",
    "export",
    "evaluate",
    "plan",
)
"""Keys that may differ whenever a run is resumed: where and on how much hardware it runs, and how training goes on.
What a training checkpoint does not allow to change, it checks on its own."""
SEAL = "# The settings above as they were used, and their hash: "
BEFORE_TRAINING = ("curation", "dedup", "tokens", "model")
"""Keys that may differ as long as there is no checkpoint: what depends on them is made anew, and no more than that."""

LEASE = ("work", "lease")
REPORT = "report.html"
OF_THE_FRAME = {"config.yaml", "work"}
"""What opening a run leaves in its directory; a run that has nothing else may change its settings."""


def is_empty(run: RunDir, there: Set[str] | None = None) -> bool:
    """Whether nothing was made in a run directory yet (two listings). `there`: what it has, where that is known."""
    if (set(storage.listdir(run.uri)) if there is None else there) - OF_THE_FRAME:
        return False
    return not set(storage.listdir(run.path("work"))) - {LEASE[-1], DIARY[-1], NOW[-1]}


def has_trained(run: RunDir) -> bool:
    """Whether there is a checkpoint: from then on the samples of the run are fixed."""
    return any(name.startswith("step-") for name in storage.listdir(run.path("checkpoints")))


@contextmanager
def open_run(config: RunConfig, job: str) -> Iterator[RunDir]:
    """The run directory of a configuration, held against other jobs for the length of the block.

    It is created with its config.yaml, or checked against the one that is there; a run in which nothing was made yet
    takes the new settings. `job` names this one to others.

    Says in the log which settings differ from those of the last start.

    Raises:
        UserError: the directory cannot be written, or another job works in it, or it holds a run with other settings in
            keys that decide what the data is.
    """
    run = RunDir(config.run_uri)
    with ExitStack() as stack:
        try:
            stack.enter_context(hold(run.path(*LEASE), job))
        except OSError as e:
            raise UserError(f"run.dir: {redact(run.uri)} cannot be written: {e}") from None
        _claim(config, run)
        metrics.set_run(metrics.label_of(run.uri))
        stack.callback(metrics.set_run, None)
        stack.enter_context(notifying(config.run.notify, run.uri, job))
        kept: dict[str, str] = {}
        stack.callback(_report, run, config.run.name, kept)
        note = stack.enter_context(written_down(run, job))

        def build() -> bytes | None:
            note.keep()
            return _page(run, config.run.name, kept, running=True)

        put = partial(storage.write_bytes, run.path(REPORT))
        stack.enter_context(kept_up(build, put, local=storage.is_local(run.uri)))
        stack.enter_context(course(config, run, planned(job, config)))
        # Nobody else writes what this process writes, as long as it holds the directory.
        stack.enter_context(written.own_writes())
        yield run


def _page(run: RunDir, name: str, kept: dict[str, str], *, running: bool) -> bytes | None:
    """None where nothing was made: a page would be the first thing, and such a run may change its settings. `kept`: as
    `build_report` has it.
    """
    from raypt.run.report import build_report

    there = set(storage.listdir(run.uri))
    if is_empty(run, there):
        return None
    with written.own_writes():
        return build_report(run, name, running=running, kept=kept, there=there).encode()


def _report(run: RunDir, name: str, kept: dict[str, str]) -> None:
    """The last page, also of a run that failed. Nothing depends on it: an error in it hides no other."""
    try:
        if (page := _page(run, name, kept, running=False)) is not None:
            storage.write_bytes(run.path(REPORT), page)
    except Exception as e:
        log.warning("report.html could not be written: %s: %s", type(e).__name__, e)


@dataclass(frozen=True)
class Changes:
    """What a configuration says otherwise than the last start of its run, each as (key, before, now)."""

    all: tuple[tuple[str, Any, Any], ...]
    refused: tuple[tuple[str, Any, Any], ...]
    """Those that the run does not take."""
    trained: bool
    """Whether there is a checkpoint."""

    @property
    def data(self) -> bool:
        """Whether something has to be made anew."""
        return any(key.startswith(BEFORE_TRAINING) for key, _, _ in self.all)

    def refusal(self, uri: str) -> str:
        """What is said to who asks for what the run does not take."""
        lines = "\n".join(f"  {key}: was {before!r}, now {after!r}" for key, before, after in self.refused)
        why = "the checkpoints there were trained on other samples" if self.trained else "its documents are others"
        return (
            f"{uri} holds a run with other settings ({why}):\n{lines}\n"
            "Resuming would mix two data sets: give the new run its own run.name or run.dir, or delete the old one"
        )


def changes(config: RunConfig, run: RunDir) -> Changes | None:
    """What differs from the last start; None where nothing was made yet. Changes nothing.

    Raises:
        UserError: config.yaml there is not what raypt wrote.
    """
    return None if is_empty(run) else _changes(config, run)


def _changes(config: RunConfig, run: RunDir) -> Changes | None:
    """Of a run in which something was made; None where its config.yaml is gone."""
    if not storage.is_file(run.config):
        return None
    changed = differences(redacted(_settings_of(run)), redacted(config.model_dump(mode="json")))
    trained = has_trained(run)
    free = MAY_CHANGE if trained else (*MAY_CHANGE, *BEFORE_TRAINING)
    refused = [c for c in changed if not any(c[0] == key or c[0].startswith(f"{key}.") for key in free)]
    return Changes(tuple(changed), tuple(refused), trained)


def _claim(config: RunConfig, run: RunDir) -> None:
    """Put this start's settings there, or refuse them; find out whether the run is new."""
    empty = is_empty(run)
    # Looking costs nothing on a local disk. Elsewhere a listing must not be all that says so: what is not looked for is
    # made anew over what is there.
    run.new = empty and not storage.is_local(run.uri) and not storage.is_file(run.manifest)
    found = None if empty else _changes(config, run)
    if found is not None:
        if found.refused:
            raise UserError(found.refusal(run.uri))
        for key, before, after in found.all:
            log.info("%s: was %r, now %r", key, before, after)
        if found.data:
            log.info("what depends on these is made anew; what does not is used as it is")
    text = redact(dump_yaml(config))
    storage.write_bytes(run.config, f"{text}{SEAL}{hash_of(text)}\n".encode())


def _settings_of(run: RunDir) -> dict[str, Any]:
    """The settings of the run's last start, through the present schema: a key that raypt has got since then counts as
    its default.

    Raises:
        UserError: config.yaml is not what raypt wrote. Nobody knows then what the files beside it were made with.
    """
    text, _, seal = storage.read_bytes(run.config).decode(errors="replace").rpartition(SEAL)
    if seal.strip() != hash_of(text):
        raise UserError(
            f"{run.config} is not as raypt wrote it. It records what the run was made with, and changes nothing: give "
            "other settings to the job (--config FILE, key=value), and restore it, or use a new run.dir"
        )
    return validate(RunConfig, yaml.safe_load(text)).model_dump(mode="json")
