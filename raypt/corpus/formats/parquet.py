"""Parquet: footers and row groups, both read in a child process."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from raypt import storage
from raypt.corpus.formats.columnar import (
    Sent,
    asked,
    identity_checked,
    in_child,
    open_table,
    read_part,
    rows_a_batch,
    sendable,
    unreadable,
)
from raypt.corpus.records import Fault, Item, ReadRequest

MAX_LOST_ROWS = 1 << 31
"""More rows than a damaged row group can be believed to have."""


@dataclass(frozen=True)
class Footer:
    """What a Parquet file says of itself. `groups`: (rows, bytes of the file, about) of each row group."""

    columns: tuple[str, ...]
    groups: tuple[tuple[int, int], ...]

    @property
    def rows(self) -> int:
        return sum(rows for rows, _ in self.groups)


def footer_of(uri: str) -> Footer:
    """The footer of a Parquet file. For a child process: an encrypted or hostile one can abort the process.

    Raises:
        pa.ArrowInvalid, OSError: not a Parquet file.
    """
    with open_table(uri) as f:
        metadata = pq.ParquetFile(f).metadata
        size = f.size() if callable(f.size) else f.size
        # Sizes of columns are not asked for: those of an encrypted column are secret, and asking is fatal.
        groups = [metadata.row_group(g) for g in range(metadata.num_row_groups)]
        ends = [0, *itertools.accumulate(max(1, g.total_byte_size) for g in groups)]
        shares = [size * end // ends[-1] if ends[-1] else 0 for end in ends]
        sizes = (shares[i + 1] - shares[i] for i in range(len(groups)))
        rows = (max(0, g.num_rows) for g in groups)
        return Footer(tuple(metadata.schema.to_arrow_schema().names), tuple(zip(rows, sizes, strict=True)))


def decode_group(request: ReadRequest, group: int, start: int, most_rows: int) -> Iterator[Sent]:
    """Rows of a row group from `start` on, in batches of at most `most_rows`. Runs in the child."""
    pa.set_cpu_count(1)
    with open_table(request.uri) as f:
        file = pq.ParquetFile(f, page_checksum_verification=True, pre_buffer=not storage.is_local(request.uri))
        columns = asked(file.schema_arrow.names, request)
        metadata = file.metadata.row_group(group)
        paths = {file.metadata.schema.column(i).path: i for i in range(file.metadata.num_columns)}
        wanted = [i for path, i in paths.items() if any(path == c or path.startswith(f"{c}.") for c in columns)]
        decoded = sum(metadata.column(i).total_uncompressed_size for i in wanted)
        size = min(most_rows, rows_a_batch(metadata.num_rows, decoded, request))
        row = 0
        for batch in file.iter_batches(size, row_groups=[group], columns=columns, use_threads=False):
            if row + batch.num_rows > start:
                behind = batch.slice(start - row) if row < start else batch
                yield from sendable(behind, max(row, start), request)
            row += batch.num_rows


def read_parquet(request: ReadRequest) -> Iterator[Item]:
    """Rows of the row groups [start, stop), numbered as in the file."""
    identity_checked(request)
    if request.size == 0 or (request.size is None and storage.size(request.uri) == 0):
        return
    footer = in_child(request, footer_of, request.uri)
    if isinstance(footer, Exception):
        yield unreadable(request, footer)
        return
    row = sum(rows for rows, _ in footer.groups[: request.start])
    for i in range(len(footer.groups))[request.start : request.stop]:
        rows, nbytes = footer.groups[i]
        sending = yield from read_part(request, i, row, decode_group)
        lost = min(rows - sending.rows, MAX_LOST_ROWS)
        if lost > 0:
            why = sending.failure or f"the data end after {sending.rows} of {rows} rows"
            message = f"rows {row + sending.rows} to {row + rows - 1} cannot be decoded: {why}"
            yield Fault(row + sending.rows, "broken_rows", message, nbytes=nbytes * lost // rows, count=lost)
        row += rows
