"""Reading the documents of a group of shards that no earlier stage removed."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raypt import storage
from raypt.dedup.plan import Plan, PlannedShard, column_bytes
from raypt.dedup.verdicts import gone
from raypt.errors import UserError

BATCH_ROWS, BATCH_BYTES = 2048, 32 << 20
"""Most documents of a batch, and about how much text."""
READ_BYTES = 128 << 20
"""Of row groups that are read together (uncompressed)."""


def live_rows(doc_keys: np.ndarray, decisions: pa.Table | None) -> np.ndarray:
    """bool[n]: which documents are not yet removed by `decisions` (doc_key, reason)."""
    if decisions is None:
        return np.ones(len(doc_keys), bool)
    dropped = decisions.filter(pc.is_valid(decisions["reason"]))["doc_key"].to_numpy()
    return ~np.isin(doc_keys, dropped)


def batch_rows(metadata: pq.FileMetaData) -> int:
    """Documents to read at a time, fewer where they are long: the kernels take some 20 bytes a byte of text."""
    size = column_bytes(metadata, "text")
    rows: int = BATCH_BYTES * metadata.num_rows // max(size, 1)
    return max(1, min(BATCH_ROWS, rows))


def row_group_runs(metadata: pq.FileMetaData, limit: int) -> Iterator[list[int]]:
    """Consecutive row groups, each run of at most so many bytes (uncompressed), or one that has more. Pure."""
    run: list[int] = []
    size = 0
    for group in range(metadata.num_row_groups):
        more = metadata.row_group(group).total_byte_size
        if run and size + more > limit:
            yield run
            run, size = [], 0
        run.append(group)
        size += more
    if run:
        yield run


def _batches(file: pq.ParquetFile, names: list[str]) -> Iterator[pa.Table]:
    """What is fetched ahead is READ_BYTES at most, by some few requests."""
    rows = batch_rows(file.metadata)
    for run in row_group_runs(file.metadata, READ_BYTES):
        for batch in file.iter_batches(rows, row_groups=run, columns=names):
            yield pa.Table.from_batches([batch])


def read_live(shard: PlannedShard, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The live documents of a shard in batches, with those of `columns` that the file has (and id, null if it has
    none).

    Raises UserError for a document without text, where text is asked for: curation quarantines those.
    """
    decisions = None
    if shard.decisions_uri:
        decisions = storage.read_parquet(shard.decisions_uri, ["doc_key", "reason"], whole=True)
    with storage.open_ranges(shard.docs_uri, whole="text" in columns) as f:
        file = pq.ParquetFile(f, pre_buffer=not storage.is_local(shard.docs_uri))
        names = [n for n in file.schema_arrow.names if n in columns]
        for docs in _batches(file, names):
            docs = docs.filter(pa.array(live_rows(docs["doc_key"].to_numpy(), decisions)))
            if "id" in columns and "id" not in names:
                docs = docs.append_column("id", pa.nulls(docs.num_rows, pa.string()))
            if "text" in columns and docs["text"].null_count:
                row = int(np.flatnonzero(docs["text"].is_null().to_numpy())[0])
                key = docs["doc_key"][row].as_py()
                raise UserError(f"{shard.docs_uri}: document {key} has a null text; curation quarantines such rows")
            yield docs


def read_group(plan: Plan, group: int, columns: Sequence[str], stage: str) -> Iterator[pa.Table]:
    """The documents of a group that `stage` decides about: those that are live and no stage before it removed."""
    lost = gone(plan, group, stage)
    for shard in plan.group(group):
        for docs in read_live(shard, columns):
            yield docs.filter(pa.array(~np.isin(docs["doc_key"].to_numpy(), lost))) if len(lost) else docs


MANY = 16
"""Documents of one shard that lie in most of its row groups, more likely than not."""


def read_some(docs_uri: str, doc_keys: Collection[int], name: str = "text") -> dict[int, str]:
    """A column (the text) of a few documents of a file, by doc_key; row groups without any of them are not read."""
    wanted = np.array(sorted(doc_keys), np.int64)
    texts: dict[int, str] = {}
    with storage.open_ranges(docs_uri, whole=len(doc_keys) >= MANY, little=True) as f:
        file = pq.ParquetFile(f, pre_buffer=not storage.is_local(docs_uri))
        at = file.schema_arrow.names.index("doc_key")
        for group in range(file.num_row_groups):
            bounds = file.metadata.row_group(group).column(at).statistics
            if bounds is not None and bounds.has_min_max:
                first, end = np.searchsorted(wanted, bounds.min), np.searchsorted(wanted, bounds.max, "right")
                if first == end:
                    continue
            table = file.read_row_group(group, columns=["doc_key", name])
            found = table.filter(pa.array(np.isin(table["doc_key"].to_numpy(), wanted)))
            texts.update(zip(found["doc_key"].to_pylist(), found[name].to_pylist(), strict=True))
    return texts


def read_texts(plan: Plan, doc_keys: Collection[int], name: str = "text") -> dict[int, str]:
    """A column (the text) of a few documents of any shards, by doc_key."""
    keys = np.array(sorted(set(doc_keys)), np.int64)
    groups = plan.groups_of(keys)
    texts: dict[int, str] = {}
    for group in np.unique(groups).tolist():
        mine = keys[groups == group]
        for shard in plan.group(group):
            here = mine[mine >> 32 == shard.index]
            if len(here):
                texts |= read_some(shard.docs_uri, here.tolist(), name)
    return texts
