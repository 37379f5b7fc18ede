"""Parquet."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from raypt import storage
from raypt.corpus.records import EXCERPT_BYTES, Fault, Item, ReadRequest, Record


def read_parquet(request: ReadRequest) -> Iterator[Item]:
    """Rows of the row groups [start, stop), numbered as in the file."""
    uri, start, stop = request.uri, request.start, request.stop
    if storage.size(uri) == 0:
        return
    row = 0
    with storage.open_read(uri) as f:
        try:
            file = pq.ParquetFile(f)
            row = sum(file.metadata.row_group(group).num_rows for group in range(start))
            groups = range(start, file.num_row_groups if stop is None else stop)
            for batch in file.iter_batches(batch_size=1024, row_groups=list(groups)):
                try:
                    rows = batch.to_pylist()
                except UnicodeDecodeError:
                    yield from _rows_with_broken_strings(batch, row)
                else:
                    for i, fields in enumerate(rows):
                        yield Record(row + i, fields)
                row += batch.num_rows
        except (pa.ArrowInvalid, OSError) as e:
            yield Fault(row, "broken_file", f"the file cannot be read on after {row} rows: {e}")


def _rows_with_broken_strings(batch: pa.RecordBatch, row: int) -> Iterator[Item]:
    for i in range(batch.num_rows):
        try:
            yield Record(row + i, batch.slice(i, 1).to_pylist()[0])
        except UnicodeDecodeError as e:
            yield Fault(row + i, "invalid_utf8", f"invalid UTF-8: {e.reason}", None, bytes(e.object[:EXCERPT_BYTES]))
