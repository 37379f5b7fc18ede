"""One directory holds one run: opened the first time, checked against what is there afterwards, one job at a time."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import yaml

from raypt import storage
from raypt.config_io import dump_yaml, format_path, validate
from raypt.errors import UserError
from raypt.lease import hold
from raypt.run.config import RunConfig
from raypt.run_dir import RunDir

MAY_CHANGE = ("ray", "run.dir", "train", "export", "evaluate")
"""Keys that may differ when a run is resumed: where and on how much hardware it runs, and how training goes on. What a
training checkpoint does not allow to change, it checks on its own."""

LEASE = ("work", "lease")
OF_THE_FRAME = {"config.yaml", "work"}
"""What opening a run leaves in its directory; a run that has nothing else may change its settings."""


def _differences(old: Any, new: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(dict.fromkeys([*old, *new]))
        return [d for k in keys for d in _differences(old.get(k), new.get(k), (*at, k))]
    return [] if old == new else [(format_path(at), old, new)]


def is_empty(run: RunDir) -> bool:
    """Whether nothing was made in a run directory yet (two listings)."""
    if set(storage.listdir(run.uri)) - OF_THE_FRAME:
        return False
    return not set(storage.listdir(run.path("work"))) - {LEASE[-1]}


@contextmanager
def open_run(config: RunConfig, job: str) -> Iterator[RunDir]:
    """The run directory of a configuration, held against other jobs for the length of the block.

    It is created with its config.yaml, or checked against the one that is there; a run in which nothing was made yet
    takes the new settings. `job` names this one to others.

    Raises:
        UserError: the directory cannot be written, or another job works in it, or it holds a run with other settings in
            keys that decide what the data is.
    """
    run = RunDir(config.run_uri)
    with ExitStack() as stack:
        try:
            stack.enter_context(hold(run.path(*LEASE), job))
        except OSError as e:
            raise UserError(f"run.dir: {run.uri} cannot be written: {e}") from None
        _claim(config, run)
        yield run


def _claim(config: RunConfig, run: RunDir) -> None:
    if storage.exists(run.config) and not is_empty(run):
        # Through the present schema, so that a key added to raypt since then counts as its default.
        old = validate(RunConfig, yaml.safe_load(storage.read_bytes(run.config))).model_dump(mode="json")
        changed = [
            f"  {key}: was {before!r}, now {after!r}"
            for key, before, after in _differences(old, config.model_dump(mode="json"))
            if not any(key == free or key.startswith(f"{free}.") for free in MAY_CHANGE)
        ]
        if changed:
            raise UserError(
                f"{run.uri} holds a run with other settings:\n" + "\n".join(changed) + "\n"
                "Resuming would mix two data sets: give the new run its own run.name or run.dir, or delete the old one"
            )
    storage.write_bytes(run.config, dump_yaml(config).encode())
