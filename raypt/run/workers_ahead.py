"""Worker processes for the tasks of the stages to come, which start while the actors of the first stage do.

Ray starts a process when a task needs one, so a stage begins with a second of imports on each core, and it ends those
of the curation actors with them. Where cores are idle while the actors start, as on all machines of more than a few,
that second goes; on two cores it is spent earlier, and the first document is tagged later by as much.
"""

import importlib
from typing import Any

import ray

from raypt.kernels import load_compiler
from raypt.tasks import cluster_cpus

MODULES = (
    "raypt.dedup.pipeline",
    "raypt.run.write",
    "raypt.tokens.tokenizer.trainer",
    "raypt.tokens.store.shards",
)
"""Of the tasks of deduplication, of writing, of training a tokenizer and of tokenizing."""
MOST = 8
"""Processes: each has some 250 MB, and a small corpus may not need more."""


def _be_ready() -> None:
    for module in MODULES:
        importlib.import_module(module)
    load_compiler()


def start_workers() -> list[Any]:
    """Ask for one for each CPU of the machine; what is returned is there when they are ready, which nobody need wait
    for. Whoever asks for an actor until then gets another process.
    """
    ahead: Any = ray.remote(_be_ready).options(num_cpus=0, max_retries=0, name="start workers")
    return [ahead.remote() for _ in range(min(MOST, int(cluster_cpus())))]
