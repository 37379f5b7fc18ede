"""The attributes of documents in an index, as if they were those of a run."""

import functools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raypt import storage
from raypt.dedup.index import generation_file
from raypt.dedup.plan import Plan, load_plan
from raypt.dedup.signing import ATTRIBUTES


@functools.lru_cache(maxsize=2)
def _stored(uri: str) -> pa.Table:
    return storage.read_parquet(uri)


def _of_shard(plan: Plan, position: int) -> pa.Table:
    """The attributes of a shard of the index, keyed by its position."""
    first = 0
    for generation in plan.generations:
        if position < first + len(generation.shards):
            break
        first += len(generation.shards)
    at = position - first
    group = int(np.searchsorted(generation.bounds, at, "right")) - 1
    stored = _stored(generation_file(plan, generation.name, "attributes", group, "parquet"))
    keys = stored["doc_key"].to_numpy()
    index = generation.shards[at]
    low, high = np.searchsorted(keys, np.array([index << 32, (index + 1) << 32]))
    mine = stored.slice(low, high - low)
    return mine.set_column(0, "doc_key", pa.array((mine["doc_key"].to_numpy() & 0xFFFFFFFF) | (position << 32)))


def stored_attributes(item: tuple[str, int]) -> int:
    """Take the attributes of shards of the index for those of a group of the plan. Item: (plan URI, group)."""
    plan, group = load_plan(item[0]), item[1]
    uri = plan.file("attributes", group, "parquet")
    with storage.atomic_write(uri) as f, pq.ParquetWriter(f, ATTRIBUTES, compression="zstd") as writer:
        for position in range(plan.bounds[group], plan.bounds[group + 1]):
            writer.write_table(_of_shard(plan, position).cast(ATTRIBUTES))
    return group
