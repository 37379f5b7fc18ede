"""Apply the sparse lists of deduplication to documents: what a streaming reader does, without Ray."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt.dedup.verdicts import cut_text

CLUSTER_SIZE = pa.field("cluster_size", pa.int64())


def apply_shard(docs: pa.Table, removed: pa.Table, edits: pa.Table | None = None) -> tuple[pa.Table, pa.Array]:
    """(the kept documents with edited text, the reason of each of `docs` or null if kept).

    `docs` has doc_key in ascending order; `removed` (doc_key, reason) and `edits` (doc_key, starts, stops: the bytes to
    cut) are the shard's files. Documents in neither are kept as they are. Pure.
    """
    keys = docs["doc_key"].to_numpy()
    assert (np.diff(keys) > 0).all(), "documents are not in ascending order of doc_key"
    reasons = _scatter(keys, removed, "reason")
    if edits is not None and edits.num_rows:
        docs = _edit(docs, keys, edits)
    return docs.filter(reasons.is_null()), reasons


def stands_for(docs: pa.Table, sizes: pa.Table | None) -> pa.StructArray:
    """{cluster_size: int64}[n]: how many documents each of `docs` stands for, itself among them; 1 where `sizes`
    (doc_key, cluster_size: the shard's file) does not name it. Pure."""
    size = pa.nulls(docs.num_rows, pa.int64())
    if sizes is not None:
        size = _scatter(docs["doc_key"].to_numpy(), sizes, "cluster_size")
    return pa.StructArray.from_arrays([pc.fill_null(size, 1)], fields=[CLUSTER_SIZE])


def _edit(docs: pa.Table, keys: np.ndarray, edits: pa.Table) -> pa.Table:
    edits = edits.filter(pa.array(np.isin(edits["doc_key"].to_numpy(), keys)))
    rows = np.searchsorted(keys, edits["doc_key"].to_numpy())
    at = docs.schema.get_field_index("text")
    field = docs.schema.field(at)
    mask = np.zeros(len(keys), bool)
    mask[rows] = True
    shortened = cut_text(docs["text"].take(pa.array(rows)), edits).cast(field.type)
    text = pc.replace_with_mask(docs["text"].combine_chunks(), pa.array(mask), shortened)
    return docs.set_column(at, field, text)


def _scatter(keys: np.ndarray, sparse: pa.Table, name: str) -> pa.Array:
    """The column of `sparse` laid out along `keys`, null where `sparse` has no such doc_key."""
    order = np.searchsorted(sparse["doc_key"].to_numpy(), keys)
    at = np.minimum(order, max(sparse.num_rows - 1, 0))
    found = sparse["doc_key"].to_numpy()[at] == keys if sparse.num_rows else np.zeros(len(keys), bool)
    values = sparse[name].take(pa.array(at, mask=~found))
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
