"""The exchange: rows by partition, one file a task, from which any task reads its partition in two range requests.

A file is a table of entries, one of 48 bytes a partition, and behind it the rows of each partition as one Arrow record
batch. An entry holds where its rows are, their hash, what the file is (`identity`: parameters, columns, number of
partitions), and a hash of all this, so that each byte of a file that is read is vouched for: whoever wants partition p
asks for the bytes of entry p, then for the bytes that it names. The requests of a reduce task are twice the number of
map tasks, which `raypt.dedup.plan` bounds, and go out in parallel. A file may have several kinds of rows (sections):
those of a partition are one behind the other, its entries too, and are read together.

On an object store a process keeps the beginnings of the files that it reads from, with their entries, as long as they
are few bytes: of a file that is no more than that it asks once, of another once and then once a partition.
"""

import io
import itertools
import struct
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO

import numpy as np
import pyarrow as pa
import xxhash

from raypt import storage
from raypt.dedup.heads import HEADS_BYTES, heads
from raypt.errors import UserError

ENTRY = struct.Struct("<8sQQQQQ")
"""Of a partition: MAGIC, identity of the file, first byte and number of bytes of its rows, their xxh3-64, and the
xxh3-64 of the entry up to here and the number of the partition."""
MAGIC = b"raypt-x2"

SPILL_BYTES = 256 << 20
"""Rows kept in memory by a writer before they go to a temporary file of the machine."""


HEAD_BYTES = 16 << 10
"""Of a file on an object store, what is read beside its table of entries: what is smaller is read at once."""
MOST_ENTRIES_BYTES = 256 << 10
"""Table of entries from which the beginning of a file costs more than what it spares."""


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


class _Rows:
    """The rows of one section, by partition; those that are too many for the memory in temporary files."""

    def __init__(self, layout: Layout, spill_bytes: int) -> None:
        self.layout, self.spill_bytes = layout, spill_bytes
        self._pending: list[tuple[pa.Table, np.ndarray]] = []
        self._pending_bytes = 0
        self.segments: list[_Segment] = []

    def add(self, table: pa.Table, partition: np.ndarray) -> None:
        assert len(partition) == table.num_rows
        table = table.select(self.layout.schema.names).cast(self.layout.schema)
        self._pending.append((table, partition))
        self._pending_bytes += table.nbytes
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
        file = tempfile.TemporaryFile(prefix="raypt-exchange-")  # noqa: SIM115 - closed by the writer
        sizes = [file.write(data) for data in self._sorted()]
        self.segments.append(_Segment(file, np.cumsum([0, *sizes])))

    def partitions(self) -> Iterator[bytes | pa.Buffer]:
        """The serialised rows of each partition, in order."""
        if not self.segments:
            yield from self._sorted()
            return
        self._spill()
        for p in range(self.layout.partitions):
            batches = [b for segment in self.segments for b in segment.read(p, self.layout.schema)]
            yield _serialised(pa.Table.from_batches(batches, self.layout.schema).combine_chunks())


class PartitionWriter:
    """Writes one file of an exchange; the rows of a partition keep the order in which they were added.

    Memory: about three times `spill_bytes` a section, however many rows there are.
    """

    def __init__(self, uri: str, *sections: Layout, spill_bytes: int = SPILL_BYTES) -> None:
        assert len({layout.partitions for layout in sections}) == 1
        self.uri, self.rows = uri, 0
        self._sections = [_Rows(layout, spill_bytes) for layout in sections]

    def __enter__(self) -> "PartitionWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self._finish()
        for section in self._sections:
            for segment in section.segments:
                segment.file.close()

    def add(self, table: pa.Table, partition: np.ndarray, section: int = 0) -> None:
        """Add rows (columns as in the layout) and the partition of each."""
        self._sections[section].add(table, partition)
        self.rows += table.num_rows

    def _finish(self) -> None:
        count = len(self._sections)
        start, entries = ENTRY.size * count * self._sections[0].layout.partitions, io.BytesIO()
        spilled = any(section.segments for section in self._sections)
        with tempfile.TemporaryFile(prefix="raypt-exchange-") if spilled else io.BytesIO() as body:
            rows = zip(*(section.partitions() for section in self._sections), strict=True)
            for number, data in enumerate(itertools.chain.from_iterable(rows)):
                entries.write(self._sections[number % count].layout.entry(number, start, data))
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


def _head_bytes(uris: Sequence[str], layouts: Sequence[Layout]) -> int:
    """How much of the beginning of each file to keep; 0: nothing, they are local or there are too many bytes."""
    table = ENTRY.size * len(layouts) * layouts[0].partitions
    if not uris or storage.is_local(uris[0]) or table > MOST_ENTRIES_BYTES:
        return 0
    return table + HEAD_BYTES if len(uris) * (table + HEAD_BYTES) <= HEADS_BYTES else 0


@dataclass(frozen=True)
class _Place:
    """Where the rows of a section of a partition are."""

    start: int
    size: int
    digest: int


def _places(uri: str, partition: int, layouts: Sequence[Layout], head: bytes) -> list[_Place]:
    """Of each section of a partition."""
    width = ENTRY.size * len(layouts)
    at = partition * width
    packed = head[at : at + width] if at + width <= len(head) else storage.read_range(uri, at, width)
    if len(packed) < width:
        raise _damaged(uri, f"it ends at byte {at + len(packed)}, within its table of partitions")
    places = []
    for k, layout in enumerate(layouts):
        entry = packed[k * ENTRY.size : (k + 1) * ENTRY.size]
        magic, identity, start, size, digest, _ = ENTRY.unpack(entry)
        if magic != MAGIC or entry[-8:] != _seal(entry[:-8], partition * len(layouts) + k):
            raise _damaged(uri, f"the entry of partition {partition} has another checksum than was written")
        if identity != layout.identity:
            raise ValueError(
                f"{uri} was written with other parameters, columns or partitions than {layout.fingerprint!r}"
            )
        places.append(_Place(start, size, digest))
    return places


def _read_one(uri: str, partition: int, layouts: Sequence[Layout], head_bytes: int) -> list[pa.Table]:
    """The rows of each section of a partition of one file."""
    if head_bytes and layouts[0].partitions == 1:  # all of it is wanted
        head, head_bytes = storage.read_bytes(uri), sys.maxsize
    else:
        head = heads.get(uri, head_bytes) if head_bytes else b""
    places = _places(uri, partition, layouts, head)
    start, end = places[0].start, places[-1].start + places[-1].size
    # The head of a file that is no longer than it is the file, whatever its entries say.
    whole = end <= len(head) or len(head) < head_bytes
    data = memoryview(head[start:end] if whole else storage.read_range(uri, start, end - start))
    if len(data) < end - start:
        missing = end - start - len(data)
        raise _damaged(uri, f"it ends within partition {partition}: {missing} of {end - start} bytes are missing")
    tables = []
    for layout, place in zip(layouts, places, strict=True):
        rows = data[place.start - start : place.start - start + place.size]
        if xxhash.xxh3_64_intdigest(rows) != place.digest:
            raise _damaged(uri, f"partition {partition} has another checksum than was written")
        batches = [pa.ipc.read_record_batch(pa.py_buffer(rows), layout.schema)] if place.size else []
        tables.append(pa.Table.from_batches(batches, layout.schema))
    return tables


def _read_all(uris: Sequence[str], partition: int, layouts: Sequence[Layout]) -> Iterator[list[pa.Table]]:
    head_bytes = _head_bytes(uris, layouts)
    if len(uris) < 2 or storage.is_local(uris[0]):
        yield from (_read_one(uri, partition, layouts, head_bytes) for uri in uris)
        return
    yield from storage.in_order(lambda uri: _read_one(uri, partition, layouts, head_bytes), uris)


def read_each(uris: Sequence[str], partition: int, layout: Layout) -> Iterator[pa.Table]:
    """The rows of one partition in each of many files, in the order of the files; few are in memory at a time.

    Raises UserError for a damaged file, and ValueError for one that was written with other parameters: hashes of
    different parameters never meet.
    """
    for (table,) in _read_all(uris, partition, [layout]):
        yield table


def stored_bytes(uris: Sequence[str], partition: int, layout: Layout) -> int:
    """Bytes of the rows of one partition over many files, from their tables of entries. Raises as `read_each`."""
    head_bytes = _head_bytes(uris, [layout])

    def size(uri: str) -> int:
        return _places(uri, partition, [layout], heads.get(uri, head_bytes) if head_bytes else b"")[0].size

    if len(uris) < 2 or storage.is_local(uris[0]):
        return sum(map(size, uris))
    return sum(storage.in_order(size, uris))


def read_partition(uris: Sequence[str], partition: int, layout: Layout) -> pa.Table:
    """As `read_each`, in one table."""
    return read_sections(uris, partition, [layout])[0]


def read_sections(uris: Sequence[str], partition: int, layouts: Sequence[Layout]) -> list[pa.Table]:
    """As `read_each`, of files of several sections: a table of each."""
    files = list(_read_all(uris, partition, layouts))
    return [
        pa.concat_tables([layout.schema.empty_table(), *(tables[k] for tables in files)]).combine_chunks()
        for k, layout in enumerate(layouts)
    ]


def column(table: pa.Table, name: str) -> np.ndarray:
    """A column without nulls as a numpy array (a view where Arrow allows)."""
    chunks = table.column(name)
    array = chunks.chunk(0) if chunks.num_chunks == 1 else chunks.combine_chunks()
    return np.asarray(array.to_numpy(zero_copy_only=False))
