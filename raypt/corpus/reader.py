"""A manifest shard as document tables: the same rows, in the same order, with the same keys, on every attempt."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raypt.corpus.config import CorpusConfig, SourceConfig
from raypt.corpus.documents import Documents, extra_columns, look_up
from raypt.corpus.formats.table import reader_of
from raypt.corpus.keys import doc_keys
from raypt.corpus.manifest import Manifest
from raypt.corpus.paths import partitions
from raypt.corpus.presets import decode_fields, has_literals
from raypt.corpus.records import BROKEN_FILE, EXCERPT_BYTES, Fault, Item, ReadRequest, Record, Rows, Skip
from raypt.corpus.values import as_text, field_of, fits
from raypt.outside import redact, shown

MESSAGE_CHARS = 600
FIELDS_SHOWN = 20


@dataclass
class ShardBatch:
    """Part of a shard: documents, and an account of every record that did not become one."""

    documents: pa.Table
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    """One entry a record that could not be read (`records` of them where a damaged part held several): source, file,
    row, byte offset, kind, error, excerpt."""
    not_documents: Counter[str] = field(default_factory=Counter)
    """Records that are no documents by nature (empty text, WARC revisit, image), by kind."""
    bytes_lost: Counter[str] = field(default_factory=Counter)
    """Stored bytes of both, by kind, as far as known; of `broken_file` the bytes that were not read."""
    records: int = 0
    """Records looked at, documents or not."""
    stored_bytes: int = 0
    """Stored bytes of the pieces that end in this batch."""
    unfinished_bytes: int = 0
    """Of them, bytes of pieces that could not be read to their end."""
    absent: Counter[str] = field(default_factory=Counter)
    """Records that lack a field, by the key that asks for it: `columns.NAME`, `where.NAME`."""
    unconverted: Counter[str] = field(default_factory=Counter)
    """Values that became null because they are not of their column's type, by column."""


@dataclass(frozen=True)
class Poison:
    """Records of a shard that must not be touched, since they killed or hung a process."""

    rows: tuple[tuple[int, int], ...] = ()
    """(piece, row as its reader numbers it): reading them did."""
    documents: tuple[int, ...] = ()
    """Rows in the shard: working on their text did."""
    cuts: tuple[tuple[int, int], ...] = ()
    """(piece, row): the piece cannot be read on from there, even without touching the row."""

    def of(self, piece: int) -> frozenset[int]:
        return frozenset(row for p, row in self.rows if p == piece)


NOTHING = Poison()


def check_text(fields: dict[str, Any], path: str, limit: int | None) -> tuple[str | None, str | None, str]:
    """(text, None, "") or (None, kind of fault, message)."""
    try:
        value = field_of(fields, path)
    except KeyError:
        names = [shown(str(name), 60) for name in list(fields)[:FIELDS_SHOWN]]
        more = ", ..." if len(fields) > FIELDS_SHOWN else ""
        return None, "no_text_field", f"no field {path!r}; the record has {', '.join(names) or 'no fields'}{more}"
    if value is None:
        return None, "null_text", f"{path!r} is null"
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError as e:
            return None, "invalid_utf8", f"{path!r} has invalid UTF-8 at byte {e.start}: {e.reason}"
    if not isinstance(value, str):
        return None, "text_not_string", f"{path!r} is a {type(value).__name__}, not a string"
    try:
        nbytes = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError as e:
        return None, "invalid_utf8", f"{path!r} holds a lone surrogate at character {e.start}"
    if limit is not None and nbytes > limit:
        return None, "too_long", f"{path!r} has {nbytes} bytes, more than corpus.max_document_bytes={limit}"
    return value, None, ""


def requests(
    manifest: Manifest, shard: int, config: CorpusConfig, run_uri: str, poison: Poison = Poison()
) -> list[tuple[str, ReadRequest]]:
    """(format, request) for each piece of a shard."""
    entry = manifest.shards[shard]
    source = manifest.source(entry.source)
    paths = (
        source.text_field,
        source.id_field,
        source.url_field,
        *source.columns.values(),
        *source.where_fields.values(),
    )
    out = []
    for number, piece in enumerate(entry.pieces):
        info = manifest.files[piece.file]
        request = ReadRequest(
            uri=manifest.file_uri(piece.file, run_uri),
            start=piece.start,
            stop=piece.stop,
            max_document_bytes=config.max_document_bytes,
            html=config.html,
            size=info.size,
            etag=info.etag,
            fields=None if has_literals(source) else tuple(dict.fromkeys(p for p in paths if p)),
            text_field=source.text_field,
            encoding=source.encoding,
            batch_bytes=config.batch_bytes,
            unpack=config.unpack_limits,
            memory_bytes=config.max_decoder_bytes,
            max_record_seconds=config.max_record_seconds,
            skip=poison.of(number),
        )
        out.append((info.format, request))
    return out


def shard_items(asked: list[tuple[str, ReadRequest]], poison: Poison = NOTHING) -> Iterator[tuple[int, Item | None]]:
    """(piece, item) for all that the readers of a shard's pieces yield; a piece ends with None."""
    cuts = dict(poison.cuts)
    for number, (kind, request) in enumerate(asked):
        cut = cuts.get(number)
        if cut == 0:
            yield number, _killed(0, request)
        else:
            for item in reader_of(kind)(request):
                yield number, item
                if cut is not None and item.row + 1 >= cut:
                    yield number, _killed(cut, request)
                    break
        yield number, None


def _killed(row: int, request: ReadRequest) -> Fault:
    """The fault of a piece that cannot be read on without ending the process."""
    message = f"the file cannot be read on after {row} records: the process that does is killed or hangs"
    return Fault(row, BROKEN_FILE, message, nbytes=request.size or 0)


def read_shard(
    manifest: Manifest, shard: int, config: CorpusConfig, run_uri: str, poison: Poison = Poison()
) -> Iterator[ShardBatch]:
    """Documents of one shard in batches of about `config.batch_bytes` of text; at least one batch, possibly empty.

    Raises:
        UserError: a file is not the one in the manifest, or cannot be got at.
    """
    asked = requests(manifest, shard, config, run_uri, poison)
    yield from batches(shard_items(asked, poison), manifest, shard, config, asked, poison)


def batches(
    items: Iterable[tuple[int, Item | None]],
    manifest: Manifest,
    shard: int,
    config: CorpusConfig,
    asked: list[tuple[str, ReadRequest]],
    poison: Poison = Poison(),
) -> Iterator[ShardBatch]:
    """What shard_items yields as document tables with their account."""
    shard_reader = _ShardReader(manifest, shard, config, asked, poison)
    for number, item in items:
        shard_reader.take(number, item)
        if shard_reader.documents.pending_bytes >= config.batch_bytes:
            yield shard_reader.finish()
    yield shard_reader.finish()


class _ShardReader:
    """The state of reading one shard: documents at hand, the account, the row."""

    def __init__(
        self,
        manifest: Manifest,
        shard: int,
        config: CorpusConfig,
        asked: list[tuple[str, ReadRequest]],
        poison: Poison,
    ) -> None:
        self._shard, self._config, self._asked = shard, config, asked
        self._pieces = manifest.shards[shard].pieces
        self._source: SourceConfig = manifest.source(manifest.shards[shard].source)
        self._poison = frozenset(poison.documents)
        self._hive = [partitions(request.uri) for _, request in asked]
        self._literals = has_literals(self._source)
        self.documents = Documents(self._source, extra_columns(manifest.sources), shard)
        self._batch = ShardBatch(self.documents.schema.empty_table())
        self._row = 0
        self._broken = False

    def finish(self) -> ShardBatch:
        done, self._batch = self._batch, ShardBatch(self.documents.schema.empty_table())
        done.documents = self.documents.take()
        done.absent.update({f"columns.{name}": n for name, n in self.documents.absent.items()})
        done.unconverted.update(self.documents.unconverted)
        self.documents.absent.clear()
        self.documents.unconverted.clear()
        return done

    def take(self, number: int, item: Item | None) -> None:
        if isinstance(item, Record):
            self._record(item, number)
            self._row += 1
        elif item is None:
            self._batch.stored_bytes += self._pieces[number].size
            self._batch.unfinished_bytes += self._pieces[number].size if self._broken else 0
            self._broken = False
        elif isinstance(item, Fault):
            self._broken |= item.kind == BROKEN_FILE
            self._quarantine(item, number)
            self._row += item.count
        elif isinstance(item, Skip):
            self._skip(item.kind, item.nbytes)
            self._row += 1
        else:
            self._rows(item, number)

    def _quarantine(self, fault: Fault, number: int) -> None:
        kind, request = self._asked[number]
        # In a line file cut by bytes the row in the file is not known: the byte offset says where.
        file_row = fault.row if request.start == 0 or kind == "parquet" else None
        entry: dict[str, Any] = {
            "doc_key": int(doc_keys(self._shard, self._row)),
            "source": self._source.name,
            "file": redact(request.uri),
            "row": file_row,
            "byte_offset": fault.offset,
            "kind": fault.kind,
            "error": redact(shown(fault.message, MESSAGE_CHARS)),
            "excerpt": fault.raw[:EXCERPT_BYTES].decode("utf-8", "backslashreplace"),
        }
        if fault.count != 1:
            entry["records"] = fault.count
        self._batch.quarantined.append(entry)
        self._batch.bytes_lost[fault.kind] += fault.nbytes
        self._batch.records += fault.count

    def _skip(self, kind: str, nbytes: int) -> None:
        self._batch.not_documents[kind] += 1
        self._batch.bytes_lost[kind] += nbytes
        self._batch.records += 1

    def _rows(self, rows: Rows, number: int) -> None:
        """Rows of a table: all at once where each is a document and nothing is asked of a single one, else one by
        one."""
        count = rows.batch.num_rows
        singly = self._source.where or self._literals or any(self._row <= r < self._row + count for r in self._poison)
        if (
            not singly
            and self._short(rows.batch)
            and self.documents.add_rows(rows.batch, self._hive[number], self._row)
        ):
            self._batch.records += count
            self._row += count
            return
        for record in _records(rows, self._source.text_field):
            if isinstance(record, Fault):
                self._quarantine(record, number)
            else:
                self._record(record, number)
            self._row += 1

    def _short(self, batch: pa.RecordBatch) -> bool:
        """Whether no text of a batch is over the limit, as far as the batch's size says it."""
        limit = self._config.max_document_bytes
        at = batch.schema.get_field_index(self._source.text_field)
        if limit is None or at < 0 or batch.nbytes <= limit:
            return True
        try:
            return (pc.max(pc.binary_length(batch.column(at))).as_py() or 0) <= limit
        except pa.ArrowException:
            return False

    def _record(self, record: Record, number: int) -> None:
        source, batch, hive = self._source, self._batch, self._hive[number]
        fields = decode_fields(source, record.fields) if self._literals else record.fields
        if source.where and not self._wanted(fields, hive):
            try:
                text_bytes = len((as_text(field_of(fields, source.text_field)) or "").encode())
            except KeyError:
                text_bytes = 0
            self._skip("other_subset", text_bytes)
            return
        text, kind, message = check_text(fields, source.text_field, self._config.max_document_bytes)
        if text is None:
            assert kind is not None
            self._quarantine(
                Fault(record.row, kind, message, raw=repr(fields)[:500].encode("utf-8", "replace")), number
            )
        elif not text.strip():
            self._skip("empty_text", len(text.encode()))
        elif self._row in self._poison:
            message = "working on this document killed or hung the process"
            raw = text[:EXCERPT_BYTES].encode()
            self._quarantine(Fault(record.row, "killed_worker", message, None, raw, len(text.encode())), number)
        else:
            batch.records += 1
            self.documents.add(fields, hive, text, self._row)

    def _wanted(self, fields: dict[str, Any], hive: dict[str, str | None]) -> bool:
        """Whether a record has the values that `source.where` asks for."""
        wanted = True
        for name, path in self._source.where_fields.items():
            try:
                wanted &= fits(look_up(fields, hive, path), self._source.where[name])
            except KeyError:
                self._batch.absent[f"where.{name}"] += 1
                wanted = False
        return wanted


def _records(rows: Rows, text_field: str) -> Iterator[Record | Fault]:
    """Rows of a table one by one; values that Python cannot hold are text, a text that is not UTF-8 is a fault."""
    try:
        values = rows.batch.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        values = None
    if values is not None:
        yield from (Record(rows.row + i, value) for i, value in enumerate(values))
        return
    for i in range(rows.batch.num_rows):
        fields: dict[str, Any] = {}
        for name, column in zip(rows.batch.schema.names, rows.batch.columns, strict=True):
            try:
                fields[name] = column[i].as_py()
            except UnicodeDecodeError as e:
                fields[name] = bytes(e.object)
            except (ValueError, OverflowError, pa.ArrowException):
                fields[name] = _shown_value(column, i)
        text = fields.get(text_field)
        if isinstance(text, bytes) and (fault := _undecodable(rows.row + i, text)):
            yield fault
        else:
            yield Record(rows.row + i, fields)


def _undecodable(row: int, text: bytes) -> Fault | None:
    try:
        text.decode()
    except UnicodeDecodeError as e:
        return Fault(row, "invalid_utf8", f"invalid UTF-8 at byte {e.start}: {e.reason}", None, text, len(text))
    return None


def _shown_value(column: pa.Array, i: int) -> str | None:
    """A value that Python has no type for, as Arrow writes it: a date after 9999, an object with a name twice."""
    try:
        return str(column[i].cast(pa.string()).as_py())
    except (ValueError, OverflowError, pa.ArrowException):
        return None
