"""The exchange: rows sorted by partition in one Arrow IPC file a task, a record batch a partition.

Whoever wants partition p reads batch p of every file: the file's own footer holds the offsets. Files are written whole
(raypt.storage), so a file that exists is done.
"""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from raypt import storage

FINGERPRINT = b"raypt.fingerprint"


def partition_of(hashes: np.ndarray, partitions: int) -> np.ndarray:
    """The partition of each uint64 hash: equal shares of the hash range, in order."""
    return ((hashes >> np.uint64(32)) * np.uint64(partitions) >> np.uint64(32)).astype(np.int64)


def write_partitioned(uri: str, table: pa.Table, partition: np.ndarray, partitions: int, *, fingerprint: str) -> None:
    """Write the rows of `table` grouped by `partition` (int in [0, partitions)), in their order within each."""
    assert len(partition) == table.num_rows
    if partitions > 1:
        small = partition.astype(np.uint16 if partitions <= 65536 else np.int64)
        table = table.take(pa.array(np.argsort(small, kind="stable")))
    counts = np.bincount(partition, minlength=partitions)
    assert len(counts) == partitions, "a row outside the partitions"
    table = table.replace_schema_metadata({FINGERPRINT: fingerprint.encode()}).combine_chunks()
    with storage.atomic_write(uri) as f, pa.ipc.new_file(f, table.schema) as writer:
        start = 0
        for count in counts.tolist():
            batches = table.slice(start, count).to_batches()
            writer.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema))
            start += count


@contextlib.contextmanager
def _open(uri: str) -> Iterator[pa.ipc.RecordBatchFileReader]:
    if storage.is_local(uri):
        with pa.memory_map(storage.filesystem(uri)[1]) as source:
            yield pa.ipc.open_file(source)
    else:
        with storage.open_read(uri) as f:
            yield pa.ipc.open_file(pa.PythonFile(f, mode="r"))


def read_partition(uris: Sequence[str], partition: int, *, fingerprint: str) -> pa.Table:
    """The rows of one partition over many files, in the order of the files.

    Raises ValueError if a file was written with other parameters: hashes of different parameters never meet.
    """
    parts = []
    for uri in uris:
        with _open(uri) as reader:
            found = (reader.schema.metadata or {}).get(FINGERPRINT, b"").decode()
            if found != fingerprint:
                raise ValueError(f"{uri} has parameter fingerprint {found!r}, expected {fingerprint!r}")
            parts.append(pa.Table.from_batches([reader.get_batch(partition)]).replace_schema_metadata(None))
    return pa.concat_tables(parts).combine_chunks()


def column(table: pa.Table, name: str) -> np.ndarray:
    """A column without nulls as a numpy array (a view where Arrow allows)."""
    chunks = table.column(name)
    array = chunks.chunk(0) if chunks.num_chunks == 1 else chunks.combine_chunks()
    return np.asarray(array.to_numpy(zero_copy_only=False))
