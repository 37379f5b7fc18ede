"""A manifest shard as document tables: the same rows, in the same order, with the same keys, on every attempt."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from raypt.corpus.config import CorpusConfig, SourceConfig
from raypt.corpus.formats.table import READERS
from raypt.corpus.keys import doc_keys
from raypt.corpus.manifest import Manifest
from raypt.corpus.presets import decode_fields
from raypt.corpus.records import Fault, ReadRequest, Record, Skip


def document_schema(extra_columns: tuple[str, ...] = ()) -> pa.Schema:
    """Columns of a document table."""
    fields = [
        pa.field("doc_key", pa.int64(), nullable=False),
        pa.field("id", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("text", pa.string(), nullable=False),
    ]
    return pa.schema(fields + [pa.field(name, pa.string()) for name in extra_columns])


def extra_columns(sources: tuple[SourceConfig, ...]) -> tuple[str, ...]:
    """Union of the sources' further columns, in order of first mention: all shards share one schema."""
    return tuple(dict.fromkeys(name for s in sources for name in s.columns))


@dataclass
class ShardBatch:
    """Part of a shard: documents, and an account of every record that did not become one."""

    documents: pa.Table
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    """One entry a record that could not be read: source, file, row, byte offset, kind, error, excerpt."""
    not_documents: Counter[str] = field(default_factory=Counter)
    """Records that are no documents by nature (empty text, WARC revisit, image), by kind."""
    bytes_lost: Counter[str] = field(default_factory=Counter)
    """Stored bytes of both, by kind, as far as known."""


def field_of(fields: dict[str, Any], path: str) -> Any:
    """The value at a dotted path; the whole path as one key comes first. KeyError if there is none."""
    if path in fields:
        return fields[path]
    value: Any = fields
    for step in path.split("."):
        if not isinstance(value, dict):
            raise KeyError(path)
        value = value[step]
    return value


def text_or_none(fields: dict[str, Any], path: str | None) -> str | None:
    """A metadata value as a string; None if it is absent or cannot be encoded as UTF-8."""
    if path is None:
        return None
    try:
        value = field_of(fields, path)
    except KeyError:
        return None
    if value is None:
        return None
    text = value if isinstance(value, str) else value.isoformat() if hasattr(value, "isoformat") else str(value)
    return text.encode("utf-8", "replace").decode()


def check_text(fields: dict[str, Any], path: str, limit: int | None) -> tuple[str | None, str | None, str]:
    """(text, None, "") or (None, kind of fault, message)."""
    try:
        value = field_of(fields, path)
    except KeyError:
        return None, "no_text_field", f"no field {path!r}; the record has {', '.join(map(str, fields)) or 'no fields'}"
    if value is None:
        return None, "null_text", f"{path!r} is null"
    if not isinstance(value, str):
        return None, "text_not_string", f"{path!r} is a {type(value).__name__}, not a string"
    try:
        nbytes = len(value.encode())
    except UnicodeEncodeError as e:
        return None, "invalid_utf8", f"{path!r} holds a lone surrogate at character {e.start}"
    if limit is not None and nbytes > limit:
        return None, "too_long", f"{path!r} has {nbytes} bytes, more than corpus.max_document_bytes={limit}"
    return value, None, ""


def read_shard(manifest: Manifest, shard: int, config: CorpusConfig, run_uri: str) -> Iterator[ShardBatch]:
    """Documents of one shard in batches of about `config.batch_bytes` of text; at least one batch, possibly empty."""
    entry = manifest.shards[shard]
    source = manifest.source(entry.source)
    extra = extra_columns(manifest.sources)
    schema = document_schema(extra)
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    batch = ShardBatch(schema.empty_table())
    pending = row_in_shard = 0

    def quarantine(fault: Fault, uri: str, file_row: int | None) -> None:
        batch.quarantined.append(
            {
                "doc_key": int(doc_keys(shard, row_in_shard)),
                "source": source.name,
                "file": uri,
                "row": file_row,
                "byte_offset": fault.offset,
                "kind": fault.kind,
                "error": fault.message,
                "excerpt": fault.raw.decode("utf-8", "backslashreplace"),
            }
        )
        batch.bytes_lost[fault.kind] += fault.nbytes

    def finish() -> ShardBatch:
        nonlocal batch, pending
        done = batch
        done.documents = pa.table(
            [pa.array(columns[name], type=schema.field(name).type) for name in schema.names], schema=schema
        )
        for values in columns.values():
            values.clear()
        batch, pending = ShardBatch(schema.empty_table()), 0
        return done

    for piece in entry.pieces:
        info = manifest.files[piece.file]
        uri = manifest.file_uri(piece.file, run_uri)
        request = ReadRequest(uri, piece.start, piece.stop, config.max_document_bytes, config.html)
        for item in READERS[info.format](request):
            # In a line file cut by bytes the row in the file is not known: the byte offset says where.
            file_row = item.row if piece.start == 0 or info.format == "parquet" else None
            if isinstance(item, Fault):
                quarantine(item, uri, file_row)
            elif isinstance(item, Skip):
                batch.not_documents[item.kind] += 1
                batch.bytes_lost[item.kind] += item.nbytes
            else:
                item = Record(item.row, decode_fields(source, item.fields))
                if not _wanted(item, source):
                    batch.not_documents["other_subset"] += 1
                    batch.bytes_lost["other_subset"] += len(
                        (text_or_none(item.fields, source.text_field) or "").encode()
                    )
                    row_in_shard += 1
                    continue
                text, kind, message = check_text(item.fields, source.text_field, config.max_document_bytes)
                if text is None:
                    assert kind is not None
                    quarantine(Fault(item.row, kind, message, raw=repr(item.fields)[:500].encode()), uri, file_row)
                elif not text.strip():
                    batch.not_documents["empty_text"] += 1
                    batch.bytes_lost["empty_text"] += len(text.encode())
                else:
                    _append(columns, item, text, source, shard, row_in_shard, extra)
                    pending += len(text)
            row_in_shard += 1
            if pending >= config.batch_bytes:
                yield finish()
    yield finish()


def _wanted(record: Record, source: SourceConfig) -> bool:
    """Whether a record has the values that `source.where` asks for."""
    return all(
        text_or_none(record.fields, source.columns.get(name, name)) in values for name, values in source.where.items()
    )


def _append(
    columns: dict[str, list[Any]],
    record: Record,
    text: str,
    source: SourceConfig,
    shard: int,
    row: int,
    extra: tuple[str, ...],
) -> None:
    columns["doc_key"].append(int(doc_keys(shard, row)))
    columns["id"].append(text_or_none(record.fields, source.id_field))
    columns["source"].append(source.name)
    columns["url"].append(text_or_none(record.fields, source.url_field))
    columns["text"].append(text)
    for name in extra:
        columns[name].append(text_or_none(record.fields, source.columns.get(name)))
