"""The end of the data side: curated documents, and for every other document where and why it went."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raypt import storage
from raypt.dedup.apply import apply_shard
from raypt.run_dir import RunDir

REMOVED_SCHEMA = pa.schema(
    [
        pa.field("doc_key", pa.int64(), nullable=False),
        pa.field("id", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class CuratedTask:
    """One shard; `dedup_uri` is where deduplication left its lists, None if it is off."""

    run_uri: str
    shard: int
    dedup_uri: str | None


def _sparse(dedup_uri: str | None, kind: str, shard: int) -> pa.Table | None:
    if dedup_uri is None:
        return None
    uri = storage.join(dedup_uri, kind, f"shard-{shard:05d}.parquet")
    return storage.read_parquet(uri) if storage.exists(uri) else None


def _removed(docs: pa.Table, reason: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The rows of `docs` that have a reason, as rows of removed/."""
    gone = docs.select(["doc_key", "id", "source"]).append_column("reason", reason).filter(pc.is_valid(reason))
    stage = pc.list_element(pc.split_pattern(gone["reason"], ".", max_splits=1), 0)
    return gone.append_column("stage", stage).select(REMOVED_SCHEMA.names).cast(REMOVED_SCHEMA)


def write_curated_shard(task: CuratedTask) -> dict[str, Any]:
    """Write `curated/part-NNNNN.parquet` and `removed/part-NNNNN.parquet`; the account of the shard, written last."""
    run = RunDir(task.run_uri)
    if storage.exists(run.curated_account(task.shard)):
        done: dict[str, Any] = storage.read_json(run.curated_account(task.shard))
        return done
    decided = storage.read_parquet(run.decided(task.shard))
    duplicates, edits = (_sparse(task.dedup_uri, kind, task.shard) for kind in ("removed", "edits"))
    documents = nbytes = row = 0
    gone = [REMOVED_SCHEMA.empty_table()]
    with storage.atomic_write(run.curated(task.shard)) as f, storage.open_read(run.tagged(task.shard)) as tagged:
        source = pq.ParquetFile(tagged)
        with pq.ParquetWriter(f, source.schema_arrow, compression="zstd") as writer:
            for group in range(source.num_row_groups):
                docs = source.read_row_group(group)
                reason = decided["reason"].slice(row, docs.num_rows)
                row += docs.num_rows
                gone.append(_removed(docs, reason))
                kept = docs.filter(pc.is_null(reason))
                if duplicates is not None:
                    kept_before = kept
                    kept, reason = apply_shard(kept_before, duplicates, edits)
                    gone.append(_removed(kept_before, reason))
                size = pc.binary_length(kept["text"]).cast(pa.int64())
                kept = kept.set_column(kept.column_names.index("text_bytes"), "text_bytes", size)
                writer.write_table(kept)
                documents += kept.num_rows
                nbytes += int(pc.sum(size).as_py() or 0)
    storage.write_parquet(run.removed(task.shard), pa.concat_tables(gone).sort_by("doc_key"))
    account = {"shard": task.shard, "documents": documents, "bytes": nbytes}
    storage.write_json(run.curated_account(task.shard), account)
    return account
