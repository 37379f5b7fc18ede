"""Decisions across documents: exact and near duplicates, deterministic and resumable, as passes over files.

What needs kernels and Ray is imported when first asked for: a configuration is read without them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from raypt.dedup.config import DedupConfig

if TYPE_CHECKING:
    from raypt.dedup.apply import apply_shard
    from raypt.dedup.pipeline import DedupResult, deduplicate
    from raypt.dedup.plan import DedupShard

__all__ = ["DedupConfig", "DedupResult", "DedupShard", "apply_shard", "deduplicate"]

_LAZY = {"DedupResult": "pipeline", "DedupShard": "plan", "apply_shard": "apply", "deduplicate": "pipeline"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"raypt.dedup.{_LAZY[name]}"), name)
