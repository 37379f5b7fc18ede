"""The passes of deduplication, in the order in which they run: a new kind of decision is a class and a line here."""

import math

from raypt.dedup.base import Pass
from raypt.dedup.bloom import Bloom
from raypt.dedup.clusters import Clusters
from raypt.dedup.config import DedupConfig
from raypt.dedup.contamination import Contamination
from raypt.dedup.spans import Sentences
from raypt.dedup.substring import Substring
from raypt.dedup.versions import Url

PASSES: tuple[Pass, ...] = (Contamination(), Url(), Clusters(), Bloom(), Sentences(), Substring())
MAX_PARTITIONS = 65536


def enabled_passes(config: DedupConfig, *, text: bool = True) -> list[Pass]:
    """Those that are switched on; without text only those that need none."""
    return [p for p in PASSES if p.enabled(config) and (text or not p.needs_text)]


def choose_partitions(config: DedupConfig, rows: int, text_bytes: int = 0) -> int:
    """Partitions so that the rows of one, with everything a reduce task makes of them, fit the memory of a task."""
    if config.partitions is not None:
        return config.partitions
    needed = max(p.reduce_bytes(config, rows, text_bytes) for p in enabled_passes(config))
    return min(max(1, math.ceil(needed / (config.memory_mb << 20))), MAX_PARTITIONS)
