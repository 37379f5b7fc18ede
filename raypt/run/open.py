"""One directory holds one run: opened the first time, checked against what is there afterwards."""

from typing import Any

import yaml

from raypt import storage
from raypt.config_io import dump_yaml, format_path, validate
from raypt.errors import UserError
from raypt.run.config import RunConfig
from raypt.run_dir import RunDir

MAY_CHANGE = ("ray", "run.dir", "tokens.export", "train", "export", "evaluate")
"""Keys that may differ when a run is resumed: where and on how much hardware it runs, and how training goes on. What a
training checkpoint does not allow to change, it checks on its own."""


def _differences(old: Any, new: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(dict.fromkeys([*old, *new]))
        return [d for k in keys for d in _differences(old.get(k), new.get(k), (*at, k))]
    return [] if old == new else [(format_path(at), old, new)]


def open_run(config: RunConfig) -> RunDir:
    """The run directory of a configuration, created with its config.yaml, or checked against the one that is there.

    Raises:
        UserError: the directory holds a run with other settings in keys that decide what the data is.
    """
    run = RunDir(config.run_uri)
    if storage.exists(run.config):
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
    return run
