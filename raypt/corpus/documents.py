"""Records to document tables."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt.corpus.config import ColumnType, SourceConfig
from raypt.corpus.keys import doc_keys
from raypt.corpus.values import ARROW_TYPES, Unconverted, as_text, convert, field_of
from raypt.errors import UserError


def document_schema(extra: dict[str, ColumnType] | None = None) -> pa.Schema:
    """Columns of a document table; `extra` are the carried ones."""
    fields = [
        pa.field("doc_key", pa.int64(), nullable=False),
        pa.field("id", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("text", pa.string(), nullable=False),
    ]
    return pa.schema(fields + [pa.field(name, ARROW_TYPES[kind]) for name, kind in (extra or {}).items()])


def extra_columns(sources: tuple[SourceConfig, ...]) -> dict[str, ColumnType]:
    """The sources' further columns with their types, in order of first mention: all shards share one schema.

    Raises:
        UserError: two sources carry a column of one name as different types.
    """
    types: dict[str, ColumnType] = {}
    for source in sources:
        for name in source.columns:
            kind = source.column_types.get(name, "string")
            if types.setdefault(name, kind) != kind:
                raise UserError(
                    f"corpus.sources: the column {name!r} is {types[name]} in one source and {kind} in "
                    f"{source.name!r}: set its type in column_types of both"
                )
    return types


Lookup = Callable[[dict[str, Any], str], Any]


class Documents:
    """Documents of one source, collected in order."""

    def __init__(self, source: SourceConfig, extra: dict[str, ColumnType], shard: int) -> None:
        self._source, self._extra, self._shard = source, extra, shard
        self._first_key = int(doc_keys(shard, 0))
        self.schema = document_schema(extra)
        self._lists: dict[str, list[Any]] = {name: [] for name in self.schema.names}
        self._parts: list[pa.Table] = []
        self.pending_bytes = 0
        self.absent: Counter[str] = Counter()
        """Records that lack a carried field, by column."""
        self.unconverted: Counter[str] = Counter()
        """Values that are not of their column's type, by column."""

    def add(self, fields: dict[str, Any], hive: dict[str, str | None], text: str, row: int) -> None:
        """A record whose text has been checked; `hive`: fields that its file's path has."""
        lists, source = self._lists, self._source
        lists["doc_key"].append(self._first_key | row)
        lists["id"].append(_text_at(fields, hive, source.id_field))
        lists["source"].append(source.name)
        lists["url"].append(_text_at(fields, hive, source.url_field))
        lists["text"].append(text)
        self.pending_bytes += len(text)
        for name, kind in self._extra.items():
            value = None
            if name in source.columns:
                path = source.columns[name]
                try:
                    value = convert(look_up(fields, hive, path), kind)
                except KeyError:
                    self.absent[name] += 1
                except Unconverted:
                    self.unconverted[name] += 1
            lists[name].append(value)

    def add_rows(self, batch: pa.RecordBatch, hive: dict[str, str | None], row: int) -> bool:
        """Rows of a table, `row` being the first one's number in the shard, if all of them are documents and their
        columns need no work a value; False, and nothing is added, if not."""
        source, names = self._source, set(batch.schema.names)
        text = _plain_text(batch, source.text_field)
        if text is None:
            return False
        columns: dict[str, pa.Array] = {"text": text}
        wanted = {"id": source.id_field, "url": source.url_field, **{n: source.columns.get(n) for n in self._extra}}
        absent = []
        for name, path in wanted.items():
            kind = self.schema.field(name).type
            if path is not None and path not in names and (path in hive or path.split(".")[0] in names):
                return False
            if path is None or path not in names:
                columns[name] = pa.nulls(batch.num_rows, kind)
                absent += [name] if path is not None and name in self._extra else []
                continue
            column = _as_type(batch.column(path), kind)
            if column is None:
                return False
            columns[name] = column
        keys = doc_keys(self._shard, np.arange(row, row + batch.num_rows))
        columns |= {"doc_key": pa.array(keys), "source": pa.repeat(source.name, batch.num_rows)}
        self._flush()
        self._parts.append(pa.table([columns[n] for n in self.schema.names], schema=self.schema))
        self.absent.update(dict.fromkeys(absent, batch.num_rows))
        self.pending_bytes += text.nbytes
        return True

    def _flush(self) -> None:
        if self._lists["doc_key"]:
            arrays = [pa.array(self._lists[f.name], type=f.type) for f in self.schema]
            self._parts.append(pa.table(arrays, schema=self.schema))
            for values in self._lists.values():
                values.clear()

    def take(self) -> pa.Table:
        """What has been collected since the last time, as one table."""
        self._flush()
        parts, self._parts, self.pending_bytes = self._parts, [], 0
        return pa.concat_tables(parts) if parts else self.schema.empty_table()


def look_up(fields: dict[str, Any], hive: dict[str, str | None], path: str) -> Any:
    """The value at a path in a record, or in its file's path. KeyError if neither has it."""
    try:
        return field_of(fields, path)
    except KeyError:
        return hive[path]


def _text_at(fields: dict[str, Any], hive: dict[str, str | None], path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return as_text(look_up(fields, hive, path))
    except KeyError:
        return None


def _plain_text(batch: pa.RecordBatch, path: str) -> pa.Array | None:
    """The text column of a batch if every row of it is a document; else None."""
    at = batch.schema.get_field_index(path)
    if at < 0 or batch.schema.names.count(path) > 1:
        return None
    text = _as_type(batch.column(at), pa.string())
    if text is None or text.null_count or not batch.num_rows:
        return None
    first = pc.utf8_slice_codeunits(text, 0, 1)
    # A text that begins with a character that is no white space is not empty; the others are looked at one by one.
    return text if pc.all(pc.invert(pc.or_(pc.utf8_is_space(first), pc.equal(first, "")))).as_py() else None


def _as_type(column: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """A column of plain strings, numbers or truth values as one of `kind`, if that says the same; else None."""
    own = column.type
    if pa.types.is_dictionary(own):
        own = own.value_type
        if not (pa.types.is_string(own) or pa.types.is_large_string(own)):
            return None
        column = column.dictionary_decode()
    try:
        if pa.types.is_string(own) or pa.types.is_large_string(own):
            if not pa.types.is_string(kind):
                return None
            column.validate(full=True)  # decoded from a file: it need not be UTF-8
            return column.cast(kind)
        exact = (pa.types.is_integer(own) and not pa.types.is_boolean(kind)) or own == kind
        return column.cast(kind) if exact or (pa.types.is_floating(own) and pa.types.is_floating(kind)) else None
    except pa.ArrowException:
        return None
