"""Arrow IPC: files and streams, as `datasets.save_to_disk` and Feather leave them. Decoded in a child process."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from raypt import storage
from raypt.corpus.formats.columnar import (
    Sent,
    Unread,
    asked,
    identity_checked,
    in_child,
    open_table,
    read_part,
    rows_a_batch,
    sendable,
    unreadable,
)
from raypt.corpus.records import BROKEN_FILE, Fault, Item, ReadRequest

FILE_MAGIC = b"ARROW1"
CONTINUATION = b"\xff\xff\xff\xff"


def _options(schema: pa.Schema, request: ReadRequest) -> pa.ipc.IpcReadOptions:
    wanted = {path.split(".")[0] for path in asked(schema.names, request)} | set(asked(schema.names, request))
    return pa.ipc.IpcReadOptions(included_fields=[i for i, name in enumerate(schema.names) if name in wanted])


def _open(f: Any, request: ReadRequest, whole: bool) -> Any:
    """A reader of the asked columns: by batch number (`whole`: the file has a footer) or one batch after another."""
    read = pa.ipc.open_file if whole else pa.ipc.open_stream
    schema = read(f).schema
    f.seek(0)
    return read(f, options=_options(schema, request))


def _start(uri: str) -> bytes:
    with storage.open_read(uri) as f:
        return f.read(len(FILE_MAGIC))


def _has_end(uri: str, size: int, start: bytes) -> bool:
    """Whether a stream that begins with `start` ends with its end mark: four bytes of zero, behind four bytes of ones
    since Arrow 0.15."""
    with storage.open_read(uri) as f:
        f.seek(max(0, size - 8))
        end = f.read(8)
    return end == CONTINUATION + bytes(4) if start.startswith(CONTINUATION) else end.endswith(bytes(4))


def batches_of(uri: str) -> int:
    """Number of record batches of a file with a footer. Runs in the child."""
    with open_table(uri) as f:
        return int(pa.ipc.open_file(f).num_record_batches)


def _slices(batch: pa.RecordBatch, start: int, row: int, most_rows: int, request: ReadRequest) -> Iterator[Sent]:
    """A batch from its row `start` on, whose number is `row`, in slices of about the request's size."""
    size = min(most_rows, rows_a_batch(batch.num_rows, batch.nbytes, request))
    for at in range(start, batch.num_rows, size):
        yield from sendable(batch.slice(at, size), row + at - start, request)


def decode_batch(request: ReadRequest, index: int, start: int, most_rows: int) -> Iterator[Sent]:
    """Rows of one batch of a file with a footer from `start` on. Runs in the child."""
    pa.set_cpu_count(1)
    with open_table(request.uri) as f:
        yield from _slices(_open(f, request, True).get_batch(index), start, start, most_rows, request)


def decode_stream(request: ReadRequest, _: int, start: int, most_rows: int) -> Iterator[Sent]:
    """Rows of a stream from `start` on. Runs in the child."""
    pa.set_cpu_count(1)
    size = request.size or storage.size(request.uri)
    row = 0
    with open_table(request.uri) as f:
        for batch in _open(f, request, False):
            if row + batch.num_rows > start:
                behind = max(0, start - row)
                yield from _slices(batch, behind, row + behind, most_rows, request)
            row += batch.num_rows
            yield Unread(size - f.tell())
        if left := size - f.tell():
            raise ValueError(f"{left} bytes stand behind the end of the stream")


def read_arrow(request: ReadRequest) -> Iterator[Item]:
    """Rows of a file with a footer, or of a stream, numbered as they come."""
    identity_checked(request)
    size = request.size if request.size is not None else storage.size(request.uri)
    if size == 0:
        return
    start = _start(request.uri)
    if start != FILE_MAGIC:
        sending = yield from read_part(request, 0, 0, decode_stream)
        why: object = sending.failure
        if why is None and not _has_end(request.uri, size, start):
            why = "there is no end mark, so it may have been cut"
        if why is not None:
            message = f"the file cannot be read on after {sending.rows} rows: {why}"
            unread = size if sending.unread is None else sending.unread
            yield Fault(sending.rows, BROKEN_FILE, message, nbytes=unread)
        return
    batches = in_child(request, batches_of, request.uri)
    if isinstance(batches, Exception):
        yield unreadable(request, batches)
        return
    row = 0
    for i in range(batches):
        sending = yield from read_part(request, i, row, decode_batch)
        row += sending.rows
        if sending.failure is not None:
            message = f"the rest of batch {i}, from row {row} on, cannot be decoded: {sending.failure}"
            yield Fault(row, "broken_rows", message, nbytes=size // batches)
            row += 1
