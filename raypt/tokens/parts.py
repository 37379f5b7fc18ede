"""Curated parts: the Parquet files this room starts from, what they hold, and which of their documents are held out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from raypt import storage
from raypt.errors import UserError
from raypt.text.buffers import string_buffers
from raypt.tokens.config import HeldoutConfig
from raypt.tokens.groups import columns as columns_of
from raypt.tokens.groups import naming
from raypt.tokens.order import hash_array, key_of
from raypt.tokens.upsampling import Edges, buckets_of

BATCH_ROWS = 1024


@dataclass(frozen=True)
class PartSummary:
    """What a curated part holds: documents and UTF-8 bytes by group of the mixture and by (source, lang), and a hash of
    it all."""

    documents: dict[str, int]
    bytes: dict[str, int]
    languages: dict[str, dict[str, int]]
    """source -> lang ("" = unknown) -> bytes."""
    training_documents: dict[str, int]
    """By group: those that are not held out."""
    content: str
    heldout_uri: str = field(default="", compare=False)
    """Where its held-out documents are by themselves; empty: in the part alone."""


def is_heldout(doc_keys: npt.NDArray[np.int64], fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    """bool[n]: which documents are held out, by a seeded hash of the key alone."""
    if not fraction:
        return np.zeros(doc_keys.size, np.bool_)
    return hash_array(doc_keys, key_of("heldout", seed)) < np.uint64(int(fraction * (1 << 64)))


def part_uris(curated_uri: str) -> list[str]:
    """The curated parts of a directory, in shard order; refuses gaps in their numbering."""
    names = [n for n in storage.listdir(curated_uri) if n.startswith("part-") and n.endswith(".parquet")]
    names.sort(key=lambda name: (len(name), name))  # by number: more than 100,000 have six digits
    if not names:
        raise UserError(f"{curated_uri}: no curated part-*.parquet here")
    for i, name in enumerate(names):
        if name != f"part-{i:05d}.parquet":
            raise UserError(f"{curated_uri}: part-{i:05d}.parquet is missing (next is {name})")
    return [storage.join(curated_uri, n) for n in names]


def check_part(uri: str, schema: pa.Schema) -> list[str]:
    """The columns of a curated part; UserError if it is none."""
    missing = {"doc_key", "source", "text"} - set(schema.names)
    if missing:
        raise UserError(f"{uri}: not a curated part: it has no column {sorted(missing)}")
    return list(schema.names)


def read_batches(uri: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The documents of a part, a thousand at a time; a column that the part lacks is left out. Of `stage.metric` that
    metric alone is read."""
    try:
        with storage.open_ranges(uri, whole="text" in columns) as f:
            file = pq.ParquetFile(f, pre_buffer=not storage.is_local(uri))
            there = check_part(uri, file.schema_arrow)
            yield from file.iter_batches(
                BATCH_ROWS, columns=[c for c in columns if c in there or c.partition(".")[0] in there]
            )
    except (pa.ArrowInvalid, OSError) as e:
        raise UserError(f"{uri}: cannot read the curated part: {e}") from None


def wanted_columns(by: Sequence[str]) -> list[str]:
    """Of a curated part, what measuring and tokenizing read."""
    return list(dict.fromkeys(["doc_key", "source", "lang", "text", *columns_of(by)]))


def column(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column of strings, or a metric as `stage.metric`, without nulls (missing or null = "")."""
    values = _values(batch, name)
    if values is None:
        return pa.array([""] * batch.num_rows, pa.string())
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    return pc.fill_null(values.cast(pa.string()), "")


def _values(batch: pa.RecordBatch, name: str) -> pa.Array | None:
    """A column, or a metric of a stage as `stage.metric` (`classify.topic`); None if there is none."""
    if name in batch.schema.names:
        return batch.column(name)
    stage, _, metric = name.partition(".")
    if not metric or stage not in batch.schema.names:
        return None
    own = batch.column(stage)
    there = pa.types.is_struct(own.type) and own.type.get_field_index(metric) >= 0
    return pc.struct_field(own, metric) if there else None


HELDOUT_SCHEMA = pa.schema([("doc_key", pa.int64()), *((name, pa.string()) for name in ("source", "lang", "text"))])
"""Of held-out documents that are kept by themselves: what makes samples of them."""
BY_SOURCE = ("source",)


NO_EDGES: Edges = {}


def group_names(batch: pa.RecordBatch, by: Sequence[str], uri: str, edges: Edges = NO_EDGES) -> pa.Array:
    """string[n]: the group of the mixture that each document is drawn with; columns with `edges` by their buckets.

    Raises:
        UserError: a column of `tokens.mixture.by` is not there.
    """
    missing = [name for name in columns_of(by) if _values(batch, name) is None]
    if missing:
        raise UserError(
            f"tokens.mixture.by: {uri} has no column {missing[0]!r}; it has {', '.join(batch.schema.names)}. "
            "corpus.sources[].columns carries columns of the input along"
        )
    columns = [
        buckets_of(_values(batch, n.column), edges[name], f"tokens.mixture.upsample.{name}")
        if name in edges
        else n.names(column(batch, n.column))
        for name, n in zip(by, map(naming, by), strict=True)
    ]
    return columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, "/")


def summarize_part(
    uri: str,
    heldout: HeldoutConfig | None = None,
    seed: int = 0,
    by: Sequence[str] = BY_SOURCE,
    edges: Edges = NO_EDGES,
    held: list[pa.RecordBatch] | None = None,
) -> PartSummary:
    """Read a part once and sum it up; `by`: the columns that name a document's group, by buckets where they have
    `edges`. The held-out documents are added to `held`, in their order, as `HELDOUT_SCHEMA` has them."""
    fraction = heldout.fraction if heldout else 0.0
    documents: dict[str, int] = {}
    training: dict[str, int] = {}
    nbytes: dict[str, int] = {}
    sizes: dict[tuple[str, str], int] = {}
    content = xxhash.xxh3_64()
    for batch in read_batches(uri, wanted_columns(by)):
        source, lang, text = (column(batch, c) for c in ("source", "lang", "text"))
        group = group_names(batch, by, uri, edges)
        lengths = pc.binary_length(text)
        by_group = pa.table({"group": group, "bytes": lengths}).group_by("group")
        for row in by_group.aggregate([("bytes", "sum"), ("bytes", "count")]).to_pylist():
            nbytes[row["group"]] = nbytes.get(row["group"], 0) + (row["bytes_sum"] or 0)
            documents[row["group"]] = documents.get(row["group"], 0) + row["bytes_count"]
        grouped = pa.table({"source": source, "lang": lang, "bytes": lengths}).group_by(["source", "lang"])
        for row in grouped.aggregate([("bytes", "sum")]).to_pylist():
            key = row["source"], row["lang"]
            sizes[key] = sizes.get(key, 0) + (row["bytes_sum"] or 0)
        doc_keys = np.asarray(batch.column("doc_key").cast(pa.int64()))
        taken = is_heldout(doc_keys, fraction, seed)
        if held is not None and taken.any():
            whole = pa.RecordBatch.from_arrays([pa.array(doc_keys), source, lang, text], schema=HELDOUT_SCHEMA)
            held.append(whole.filter(pa.array(taken)))
        for row in pc.value_counts(group.filter(pa.array(~taken))).to_pylist():
            training[row["values"]] = training.get(row["values"], 0) + row["counts"]
        content.update(doc_keys.tobytes())
        content.update(np.asarray(lengths.cast(pa.int32())).tobytes())
        content.update(_utf8(source))
        content.update(_utf8(text))
    languages: dict[str, dict[str, int]] = {}
    for (source_name, lang_name), n in sorted(sizes.items()):
        languages.setdefault(source_name, {})[lang_name] = n
    return PartSummary(
        dict(sorted(documents.items())),
        dict(sorted(nbytes.items())),
        languages,
        dict(sorted(training.items())),
        content.hexdigest(),
    )


def _utf8(strings: pa.StringArray) -> memoryview:
    """The bytes of all strings of an array, one after the other; no copy."""
    data, offsets = string_buffers(strings)
    return data[offsets[0] : offsets[-1]].data
