"""The clusters' first task, a group of shards at a time: text to keys, and what is kept of each document."""

import contextlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raypt import storage
from raypt.dedup.config import DedupConfig
from raypt.dedup.documents import read_live
from raypt.dedup.keys import ExactKeys, key_makers, keys_writer, source_salt
from raypt.dedup.plan import load_plan
from raypt.dedup.verdicts import gone

CLUSTERS_STAGE = "clusters"
ATTRIBUTES = pa.schema(
    [
        ("doc_key", pa.int64()),
        ("id", pa.string()),
        ("source", pa.string()),
        ("quality", pa.float64()),
        ("bytes", pa.int64()),
        ("hash_high", pa.uint64()),
        ("hash_low", pa.uint64()),
    ]
)
"""What later passes need of a document instead of its text."""


def make_keys(docs: pa.Table, config: DedupConfig) -> dict[str, pa.Table]:
    """The keys of documents (doc_key, source, text) by section. Pure."""
    salt = source_salt(docs["source"]) if config.scope == "source" else None
    return {maker.section: maker.rows(docs, salt, config) for maker in key_makers(config)}


def attributes_of(docs: pa.Table, keys: dict[str, pa.Table], config: DedupConfig) -> pa.Table:
    """ATTRIBUTES of documents; the hashes are 0 for those without an exact key. Pure."""
    high, low = np.zeros((2, docs.num_rows), np.uint64)
    exact = keys.get(ExactKeys.section)
    if exact is not None and exact.num_rows:
        at = np.searchsorted(docs["doc_key"].to_numpy(), exact["doc_key"].to_numpy())
        high[at], low[at] = exact["hash_high"].to_numpy(), exact["hash_low"].to_numpy()
    columns = {
        "doc_key": docs["doc_key"],
        "id": docs["id"],
        "source": docs["source"],
        "quality": _quality(docs, config.quality_column),
        "bytes": pc.binary_length(docs["text"]),
        "hash_high": pa.array(high),
        "hash_low": pa.array(low),
    }
    return pa.table(columns).cast(ATTRIBUTES)


def _quality(docs: pa.Table, name: str | None) -> pa.ChunkedArray | pa.Array:
    """The quality score, -inf where there is none."""
    if name is None or name not in docs.column_names:
        return pa.array(np.full(docs.num_rows, -np.inf))
    return pc.coalesce(docs[name].cast(pa.float64()), pa.scalar(-np.inf))


def sign_group(item: tuple[str, int]) -> int:
    """Write the attributes of all live documents of a group, and the keys of those that no earlier stage removed.

    Returns the live documents. Item: (plan URI, group).
    """
    plan, group = load_plan(item[0]), item[1]
    lost, live = gone(plan, group, CLUSTERS_STAGE), 0
    columns = ["doc_key", "id", "source", "text", *filter(None, [plan.config.quality_column])]
    makers = key_makers(plan.config)
    with contextlib.ExitStack() as stack:  # the attributes are entered first, so that they are there last
        file = stack.enter_context(storage.atomic_write(plan.file("attributes", group, "parquet")))
        attributes = stack.enter_context(pq.ParquetWriter(file, ATTRIBUTES, compression="zstd"))
        writer = stack.enter_context(keys_writer(plan, group)) if makers else None
        for shard in plan.group(group):
            for docs in read_live(shard, columns):
                fresh = docs.filter(pa.array(~np.isin(docs["doc_key"].to_numpy(), lost)))
                keys = make_keys(fresh, plan.config)
                for section, maker in enumerate(makers):
                    assert writer is not None
                    rows = keys[maker.section]
                    writer.add(rows, maker.partition(rows, plan.partitions), section)
                attributes.write_table(attributes_of(docs, keys, plan.config))
                live += docs.num_rows
    return live
