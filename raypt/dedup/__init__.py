"""Decisions across documents: exact and near duplicates, deterministic and resumable, as passes over files."""

from raypt.dedup.apply import apply_shard
from raypt.dedup.config import DedupConfig
from raypt.dedup.pipeline import DedupResult, deduplicate
from raypt.dedup.plan import DedupShard

__all__ = ["DedupConfig", "DedupResult", "DedupShard", "apply_shard", "deduplicate"]
