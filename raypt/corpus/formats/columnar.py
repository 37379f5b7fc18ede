"""What Parquet and Arrow files have in common: rows are decoded in a child process, in batches bounded by bytes."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from raypt import storage
from raypt.corpus.formats.raw import RawFile
from raypt.corpus.records import BROKEN_FILE, EXCERPT_BYTES, Fault, Item, ReadRequest, Rows
from raypt.corpus.sandbox import ChildDied, borrowed_sandbox
from raypt.errors import UserError

Result = TypeVar("Result")

SECONDS = 300.0
"""A batch that takes longer hangs the decoder (or the storage)."""
MAX_BATCH_ROWS = 1024


@dataclass(frozen=True)
class Long:
    """A row whose text is too long; sent instead of it."""

    row: int
    nbytes: int
    start: bytes


@dataclass(frozen=True)
class Unread:
    """Stored bytes behind what has been sent, from a file that does not say how many rows it has."""

    nbytes: int


Sent: TypeAlias = "pa.RecordBatch | Long | Unread"
Decode = Callable[[ReadRequest, int, int, int], Iterator[Sent]]
"""(request, part, first row of it, rows a batch) -> the rows from there on, by sendable(); runs in the child."""
_DAMAGE = (ChildDied, pa.ArrowException, OSError, ValueError, MemoryError, RuntimeError)
"""What decoding a damaged or hostile file raises here."""


def identity_checked(request: ReadRequest) -> None:
    """UserError if the file is not the one in the manifest."""
    RawFile(request.uri, request.size, request.etag).close()


def open_table(uri: str) -> Any:
    """A file that Arrow reads from anywhere: its own for local paths, Python's for the others, without read-ahead."""
    fs, path = storage.filesystem(uri)
    return pa.OSFile(path) if storage.is_local(uri) else fs.open(path, "rb", cache_type="none")


def asked(names: list[str], request: ReadRequest) -> list[str]:
    """Columns of a file that the request's fields need: dotted paths as they are where the first step is a column."""
    if request.fields is None:
        return names
    return [path for path in dict.fromkeys(request.fields) if path in names or path.split(".")[0] in names]


def sendable(batch: pa.RecordBatch, row: int, request: ReadRequest) -> Iterator[Sent]:
    """A decoded batch, checked to be what it claims, without texts over the limit."""
    _check(batch)
    limit = request.max_document_bytes
    text = batch.schema.get_field_index(request.text_field)
    if limit is not None and text >= 0 and _has_lengths(batch.column(text).type):
        column = batch.column(text)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        lengths = pc.binary_length(column)
        if (pc.max(lengths).as_py() or 0) > limit:
            start = 0
            for i in pc.indices_nonzero(pc.fill_null(pc.greater(lengths, limit), False)).to_pylist():
                if i > start:
                    yield batch.slice(start, i - start)
                value = column[i].as_buffer()
                yield Long(row + i, lengths[i].as_py(), value.slice(0, min(EXCERPT_BYTES, value.size)).to_pybytes())
                start = i + 1
            if start < batch.num_rows:
                yield batch.slice(start)
            return
    yield batch


def _check(batch: pa.RecordBatch) -> None:
    """Raise pa.ArrowInvalid if offsets or lengths of a batch lead out of its memory. That a string is not UTF-8 is left
    to those who read it."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        for column in batch.columns:
            kind = column.type
            if pa.types.is_string(kind) or pa.types.is_large_string(kind):
                column = column.view(pa.large_binary() if pa.types.is_large_string(kind) else pa.binary())
            column.validate(full=True)


def _has_lengths(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(check(kind) for check in checks)


def rows_a_batch(rows: int, decoded_bytes: int, request: ReadRequest) -> int:
    """Rows whose decoded size is about the request's batch, if they are of equal size."""
    return max(1, min(MAX_BATCH_ROWS, request.batch_bytes * max(rows, 1) // max(decoded_bytes, 1)))


def in_child(request: ReadRequest, fn: Callable[..., Result], *args: Any) -> Result | Exception:
    """`fn(*args)` in a child process; what a damaged or hostile file made of it is returned."""
    try:
        with borrowed_sandbox(request.memory_bytes) as box:
            return box.call(fn, *args, seconds=SECONDS)
    except UserError:
        raise
    except _DAMAGE as e:
        return e


@dataclass(frozen=True)
class Sending:
    """How the reading of a part ended: rows that came, what broke it (None: nothing), bytes unread as far as told."""

    rows: int
    failure: Exception | None
    unread: int | None


def read_part(request: ReadRequest, part: int, first: int, decode: Decode) -> Generator[Item, None, Sending]:
    """The rows of a part of a file, numbered from `first`, up to its end or to what cannot be decoded.

    A batch that fails is tried again with fewer rows, down to one: what takes too much memory together may fit alone.
    """
    start, size = 0, MAX_BATCH_ROWS
    unread: int | None = None
    while True:
        failure: Exception | None = None
        try:
            with borrowed_sandbox(request.memory_bytes) as box:
                for sent in box.stream(decode, request, part, start, size, seconds=SECONDS):
                    if isinstance(sent, Unread):
                        unread = sent.nbytes
                    elif isinstance(sent, Long):
                        message = f"the text has {sent.nbytes} bytes"
                        yield Fault(first + start, "too_long", message, None, sent.start, sent.nbytes)
                        start += 1
                    elif sent.num_rows:
                        yield from _skipping(Rows(first + start, sent), request.skip)
                        start += sent.num_rows
        except UserError:
            raise
        except _DAMAGE as e:
            failure = e
        if failure is None or size == 1:
            break
        size = size // 32 if size > 32 else 1
    return Sending(start, failure, unread)


def _skipping(rows: Rows, skip: frozenset[int]) -> Iterator[Item]:
    inside = sorted(r - rows.row for r in skip if rows.row <= r < rows.row + rows.batch.num_rows)
    start = 0
    for i in inside:
        if i > start:
            yield Rows(rows.row + start, rows.batch.slice(start, i - start))
        yield Fault(rows.row + i, "killed_reader", "reading this record killed or hung the process")
        start = i + 1
    if start < rows.batch.num_rows:
        yield Rows(rows.row + start, rows.batch.slice(start))


def unreadable(request: ReadRequest, error: Exception) -> Fault:
    """The fault of a table file of which nothing can be read."""
    return Fault(0, BROKEN_FILE, f"the file cannot be read on after 0 rows: {error}", nbytes=request.size or 0)
