"""Training runs to export, made by ranks without Ray: at ZeRO stage 1, at stage 3, and one that changes its workers."""

import shutil
from pathlib import Path
from typing import Any

from raypt.parallel.config import ZeroConfig
from raypt.training.config import CheckpointConfig
from tests.parallel.ranks import run_ranks
from tests.training import tiny_run
from tests.training.scenarios import Scenario

HERE = "tests.jobs.trained"
STEPS = 6
KINDS = ("zero-1", "zero-3", "elastic")
"""Directories under the root that `make` leaves."""


def make(root: Path) -> None:
    data = root / "data"
    tiny_run.prepare(data)
    run_ranks(2, HERE, "on_two", root, data=str(data), root=str(root))
    run_ranks(1, HERE, "on_one", root, data=str(data), root=str(root))
    for kind in KINDS:
        shutil.copytree(data / "tokenizer", root / kind / "tokenizer")


def on_two(data: str, root: str) -> dict[str, Any]:
    s = Scenario(data)
    for stage in (1, 3):
        s.run(Path(root) / f"zero-{stage}", **options(stage))
    s.run(Path(root) / "elastic", last=STEPS // 2 * tiny_run.BATCH, **options(1))
    return {}


def on_one(data: str, root: str) -> dict[str, Any]:
    """The second half of the run that two ranks began."""
    s, out = Scenario(data), Path(root) / "elastic"
    s.run(out, first=s.resume_sample(out), **options(1))
    return {}


def options(stage: int) -> dict[str, Any]:
    return {
        "steps": STEPS,
        "zero": ZeroConfig(stage=stage),
        "checkpoint": CheckpointConfig(every_steps=None),
        "z_loss": 1e-4,
    }
