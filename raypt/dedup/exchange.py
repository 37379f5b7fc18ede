"""The exchange: rows by partition, one file a task, from which any task reads its partition in two range requests.

A file is a table of entries, one of 48 bytes a partition, and behind it the rows of each partition as one Arrow record
batch. An entry holds where its rows are, their hash, what the file is (`identity`: parameters, columns, number of
partitions), and a hash of all this, so that each byte of a file that is read is vouched for: whoever wants partition p
asks for the bytes of entry p, then for the bytes that it names. The requests of a reduce task are twice the number of
map tasks, which `raypt.dedup.plan` bounds, and go out in parallel.
"""

import io
import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO

import numpy as np
import pyarrow as pa
import xxhash

from raypt import storage
from raypt.errors import UserError

ENTRY = struct.Struct("<8sQQQQQ")
"""Of a partition: MAGIC, identity of the file, first byte and number of bytes of its rows, their xxh3-64, and the
xxh3-64 of the entry up to here and the number of the partition."""
MAGIC = b"raypt-x2"

SPILL_BYTES = 256 << 20
"""Rows kept in memory by a writer before they go to a temporary file of the machine."""


def partition_of(hashes: np.ndarray, partitions: int) -> np.ndarray:
    """The partition of each uint64 hash: equal shares of the hash range, in order."""
    return ((hashes >> np.uint64(32)) * np.uint64(partitions) >> np.uint64(32)).astype(np.int64)


@dataclass(frozen=True)
class Layout:
    """What a file of an exchange must be: its columns, its number of partitions, the parameters behind its values."""

    schema: pa.Schema
    partitions: int
    fingerprint: str

    @property
    def identity(self) -> int:
        columns = ",".join(f"{f.name}:{f.type}" for f in self.schema)
        return xxhash.xxh3_64_intdigest(f"{self.fingerprint}|{self.partitions}|{columns}".encode())

    def entry(self, partition: int, start: int, data: bytes | pa.Buffer) -> bytes:
        fields = (MAGIC, self.identity, start, len(data), xxhash.xxh3_64_intdigest(data))
        packed = ENTRY.pack(*fields, 0)[:-8]
        return packed + _seal(packed, partition)


def _seal(packed: bytes, partition: int) -> bytes:
    return xxhash.xxh3_64_intdigest(packed + struct.pack("<Q", partition)).to_bytes(8, "little")


@dataclass
class _Segment:
    """Rows by partition in a temporary file: those of partition p are the batch at [bounds[p], bounds[p + 1])."""

    file: IO[bytes]
    bounds: np.ndarray

    def read(self, partition: int, schema: pa.Schema) -> list[pa.RecordBatch]:
        start, end = (int(x) for x in self.bounds[partition : partition + 2])
        if start == end:
            return []
        self.file.seek(start)
        return [pa.ipc.read_record_batch(pa.py_buffer(self.file.read(end - start)), schema)]


@dataclass
class PartitionWriter:
    """Writes one file of an exchange; the rows of a partition keep the order in which they were added.

    Memory: about three times `spill_bytes`, however many rows there are.
    """

    uri: str
    layout: Layout
    spill_bytes: int = SPILL_BYTES
    rows: int = 0
    _pending: list[tuple[pa.Table, np.ndarray]] = field(default_factory=list)
    _pending_bytes: int = 0
    _segments: list[_Segment] = field(default_factory=list)

    def __enter__(self) -> "PartitionWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._finish()
        for segment in self._segments:
            segment.file.close()

    def add(self, table: pa.Table, partition: np.ndarray) -> None:
        """Add rows (columns as in the layout) and the partition of each."""
        assert len(partition) == table.num_rows
        table = table.select(self.layout.schema.names).cast(self.layout.schema)
        self._pending.append((table, partition))
        self._pending_bytes += table.nbytes
        self.rows += table.num_rows
        if self._pending_bytes > self.spill_bytes:
            self._spill()

    def _sorted(self) -> Iterator[bytes | pa.Buffer]:
        """The serialised pending rows of each partition, in order; b"" for none."""
        parts = self.layout.partitions
        table = pa.concat_tables([self.layout.schema.empty_table(), *(t for t, _ in self._pending)])
        partition = np.concatenate([np.zeros(0, np.int64), *(p for _, p in self._pending)])
        self._pending, self._pending_bytes = [], 0
        counts = np.bincount(partition, minlength=parts)
        assert len(counts) == parts, "a row outside the partitions"
        if parts > 1:
            small = partition.astype(np.uint16 if parts <= 65536 else np.int64)
            table = table.take(pa.array(np.argsort(small, kind="stable")))
        table = table.combine_chunks()
        start = 0
        for count in counts.tolist():
            yield _serialised(table.slice(start, count))
            start += count

    def _spill(self) -> None:
        file = tempfile.TemporaryFile(prefix="raypt-exchange-")  # noqa: SIM115 - closed in __exit__
        sizes = [file.write(data) for data in self._sorted()]
        self._segments.append(_Segment(file, np.cumsum([0, *sizes])))

    def _partitions(self) -> Iterator[bytes | pa.Buffer]:
        if not self._segments:
            yield from self._sorted()
            return
        self._spill()
        for p in range(self.layout.partitions):
            batches = [b for segment in self._segments for b in segment.read(p, self.layout.schema)]
            yield _serialised(pa.Table.from_batches(batches, self.layout.schema).combine_chunks())

    def _finish(self) -> None:
        start, entries = ENTRY.size * self.layout.partitions, io.BytesIO()
        with tempfile.TemporaryFile(prefix="raypt-exchange-") if self._segments else io.BytesIO() as body:
            for p, data in enumerate(self._partitions()):
                entries.write(self.layout.entry(p, start, data))
                start += body.write(data)
            body.seek(0)
            with storage.atomic_write(self.uri) as f:
                f.write(entries.getbuffer())
                while block := body.read(16 << 20):
                    f.write(block)


def _serialised(table: pa.Table) -> bytes | pa.Buffer:
    if not table.num_rows:
        return b""
    (batch,) = table.to_batches()
    return batch.serialize()


def write_partitioned(uri: str, table: pa.Table, partition: np.ndarray, layout: Layout) -> None:
    """Write the rows of `table` grouped by `partition` (int in [0, layout.partitions)), in their order within each."""
    with PartitionWriter(uri, layout, spill_bytes=1 << 62) as writer:
        writer.add(table, partition)


def _damaged(uri: str, what: str) -> UserError:
    return UserError(f"{uri}: {what}; the file was damaged after it was written. Delete its directory and run again")


def _read_entry(uri: str, partition: int, layout: Layout) -> tuple[int, int, int]:
    """(first byte, bytes, hash) of the rows of a partition."""
    packed = storage.read_range(uri, partition * ENTRY.size, ENTRY.size)
    if len(packed) < ENTRY.size:
        raise _damaged(uri, f"it ends at byte {partition * ENTRY.size + len(packed)}, within its table of partitions")
    magic, identity, start, size, digest, _ = ENTRY.unpack(packed)
    if magic != MAGIC or packed[-8:] != _seal(packed[:-8], partition):
        raise _damaged(uri, f"the entry of partition {partition} has another checksum than was written")
    if identity != layout.identity:
        raise ValueError(f"{uri} was written with other parameters, columns or partitions than {layout.fingerprint!r}")
    return start, size, digest


def _read_one(uri: str, partition: int, layout: Layout) -> pa.Table:
    start, size, digest = _read_entry(uri, partition, layout)
    if size == 0:
        return layout.schema.empty_table()
    data = storage.read_range(uri, start, size)
    if len(data) < size:
        raise _damaged(uri, f"it ends within partition {partition}: {size - len(data)} of {size} bytes are missing")
    if xxhash.xxh3_64_intdigest(data) != digest:
        raise _damaged(uri, f"partition {partition} has another checksum than was written")
    return pa.Table.from_batches([pa.ipc.read_record_batch(pa.py_buffer(data), layout.schema)])


def read_each(uris: Sequence[str], partition: int, layout: Layout) -> Iterator[pa.Table]:
    """The rows of one partition in each of many files, in the order of the files; few are in memory at a time.

    Raises UserError for a damaged file, and ValueError for one that was written with other parameters: hashes of
    different parameters never meet.
    """
    if len(uris) < 2 or storage.is_local(uris[0]):
        yield from (_read_one(uri, partition, layout) for uri in uris)
        return
    yield from storage.in_order(lambda uri: _read_one(uri, partition, layout), uris)


def stored_bytes(uris: Sequence[str], partition: int, layout: Layout) -> int:
    """Bytes of the rows of one partition over many files, from their tables of entries. Raises as `read_each`."""

    def size(uri: str) -> int:
        return _read_entry(uri, partition, layout)[1]

    if len(uris) < 2 or storage.is_local(uris[0]):
        return sum(map(size, uris))
    return sum(storage.in_order(size, uris))


def read_partition(uris: Sequence[str], partition: int, layout: Layout) -> pa.Table:
    """As `read_each`, in one table."""
    tables = [layout.schema.empty_table(), *read_each(uris, partition, layout)]
    return pa.concat_tables(tables).combine_chunks()


def column(table: pa.Table, name: str) -> np.ndarray:
    """A column without nulls as a numpy array (a view where Arrow allows)."""
    chunks = table.column(name)
    array = chunks.chunk(0) if chunks.num_chunks == 1 else chunks.combine_chunks()
    return np.asarray(array.to_numpy(zero_copy_only=False))
