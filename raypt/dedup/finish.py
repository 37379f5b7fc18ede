"""The last pass, a task a shard: the decisions of all stages come together in the shard's files."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt import storage
from raypt.dedup.contamination import CONTAMINATION
from raypt.dedup.documents import read_live
from raypt.dedup.exchange import read_partition
from raypt.dedup.ledger import DedupAccount, account
from raypt.dedup.plan import Plan, PlannedShard, load_plan
from raypt.dedup.spans import EDITS, REMAINDER, SENTENCES, cut_repeats, edited_bytes

REMOVED = pa.schema([("doc_key", pa.int64()), ("reason", pa.string()), ("cluster_id", pa.int64())])
CLUSTERS = pa.schema([("doc_key", pa.int64()), ("id", pa.string()), ("cluster_id", pa.int64()), ("kept", pa.bool_())])


def finish_shard(item: tuple[str, int]) -> DedupAccount:
    """Write what a shard loses, its edits and its rows of the clusters' table. Item: (plan URI, position)."""
    plan, position = load_plan(item[0]), item[1]
    shard = plan.shards[position]
    files = [plan.file("elected", partition) for partition in range(plan.partitions)]
    members = read_partition(files, position, fingerprint=plan.parameters).sort_by("doc_key")
    clusters = plan.file("clusters", position, "parquet")
    if not storage.exists(clusters):
        storage.write_parquet(clusters, members.select(CLUSTERS.names).cast(CLUSTERS))
    if not storage.exists(plan.removed(shard)):
        removed = [members.filter(pc.invert(members["kept"])).select(REMOVED.names).cast(REMOVED)]
        contaminated = storage.read_parquet(plan.file("contaminated", position, "parquet"), ["doc_key"])
        removed.append(alone(contaminated["doc_key"], CONTAMINATION))
        if plan.config.sentences.enabled:
            edits, too_short = _cut_shard(plan, position)
            storage.write_parquet(plan.edits(shard), edits)
            removed.append(alone(too_short, REMAINDER))
        storage.write_parquet(plan.removed(shard), pa.concat_tables(removed).sort_by("doc_key"))
    return _account(plan, position)


def alone(doc_keys: pa.Array | pa.ChunkedArray, reason: str) -> pa.Table:
    """REMOVED rows of documents that are removed for themselves, not for another one's sake."""
    return pa.table([doc_keys, pa.array([reason] * len(doc_keys), pa.string()), doc_keys], names=REMOVED.names)


def _cut_shard(plan: Plan, position: int) -> tuple[pa.Table, pa.ChunkedArray]:
    """(edits, doc_keys of the documents of which too little is left) of a shard whose repeated passages are known."""
    files = [plan.file("repeats", partition) for partition in range(plan.partitions)]
    repeats = read_partition(files, position, fingerprint=plan.parameters).sort_by(
        [("doc_key", "ascending"), ("unit", "ascending")]
    )
    wanted = np.unique(repeats["doc_key"].to_numpy())
    edits, short = [EDITS.empty_table()], [pa.array([], pa.int64())]
    for docs in read_live(plan.shards[position], ["doc_key", "text"]):
        docs = docs.filter(pa.array(np.isin(docs["doc_key"].to_numpy(), wanted)))
        if docs.num_rows:
            kept, gone = cut_repeats(docs, repeats, plan.config.sentences)
            edits.append(kept)
            short.append(gone)
    return pa.concat_tables(edits), pa.chunked_array(short)


def _account(plan: Plan, position: int) -> DedupAccount:
    shard: PlannedShard = plan.shards[position]
    attributes = storage.read_parquet(plan.file("attributes", position, "parquet"), ["doc_key", "source", "bytes"])
    removed = storage.read_parquet(plan.removed(shard))
    edits = EDITS.empty_table()
    if plan.config.sentences.enabled:
        edits = storage.read_parquet(plan.edits(shard))
    cut = pa.table(
        {
            "doc_key": edits["doc_key"],
            "reason": pa.array([SENTENCES] * edits.num_rows, pa.string()),
            "bytes": pa.array(edited_bytes(edits)),
        }
    )
    return account(attributes, removed, cut)
