from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raypt import storage
from raypt.dedup.exchange import ENTRY, Layout, PartitionWriter, partition_of, read_each, read_partition, read_sections
from raypt.errors import UserError

SCHEMA = pa.schema([("doc_key", pa.int64()), ("name", pa.string())])
FEWER = pa.schema([("doc_key", pa.int64())])


def table(keys: np.ndarray) -> pa.Table:
    return pa.table([keys, pa.array([f"n{k}" for k in keys.tolist()], pa.string())], schema=SCHEMA)


def write(uri: object, keys: np.ndarray, partition: np.ndarray, layout: Layout, **options: int) -> str:
    with PartitionWriter(str(uri), layout, **options) as writer:
        for i in range(0, max(len(keys), 1), 50):
            writer.add(table(keys[i : i + 50]), partition[i : i + 50])
    return str(uri)


@pytest.mark.parametrize("spill_bytes", [1 << 30, 1000])
def test_a_partition_holds_its_rows_of_every_file_in_order(tmp_path: Path, spill_bytes: int) -> None:
    rng = np.random.default_rng(0)
    layout, files, expected = Layout(SCHEMA, 5, "p"), [], []
    for i in range(3):
        keys, partition = rng.integers(0, 1000, 400), rng.integers(0, 5, 400)
        files.append(write(tmp_path / f"{i}.arrow", keys, partition, layout, spill_bytes=spill_bytes))
        expected += keys[partition == 3].tolist()
    found = read_partition(files, 3, layout)
    assert found["doc_key"].to_pylist() == expected
    assert found["name"].to_pylist() == [f"n{k}" for k in expected]


def test_a_file_has_the_same_rows_however_often_its_writer_ran_out_of_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    keys, partition = rng.integers(0, 1000, 1000), rng.integers(0, 7, 1000)
    files = [
        write(tmp_path / f"{size}", keys, partition, Layout(SCHEMA, 7, "p"), spill_bytes=size)
        for size in (1, 3000, 1 << 30)
    ]
    layout = Layout(SCHEMA, 7, "p")
    for p in range(7):
        first, *others = (read_partition([file], p, layout) for file in files)
        assert all(other.equals(first) for other in others)


def test_empty_files_and_partitions_read_as_no_rows(tmp_path: Path) -> None:
    none, layout = np.zeros(0, np.int64), Layout(SCHEMA, 4, "p")
    uri = write(tmp_path / "e.arrow", none, none, layout)
    assert read_partition([uri], 2, layout).schema == SCHEMA
    assert read_partition([uri], 2, layout).num_rows == read_partition([], 0, layout).num_rows == 0


@pytest.mark.parametrize(
    "other",
    [Layout(SCHEMA, 3, "new"), Layout(SCHEMA, 4, "old"), Layout(pa.schema([("doc_key", pa.int64())]), 3, "old")],
)
def test_files_of_other_parameters_partitions_or_columns_are_refused(tmp_path: Path, other: Layout) -> None:
    uri = write(tmp_path / "x.arrow", np.arange(3), np.zeros(3, np.int64), Layout(SCHEMA, 3, "old"))
    with pytest.raises(ValueError, match=r"x\.arrow was written with other parameters"):
        read_partition([uri], 0, other)


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_partition([str(tmp_path / "none")], 0, Layout(SCHEMA, 3, "p"))


def damaged(uri: str, layout: Layout) -> str:
    """What reading all partitions says; "" if nothing."""
    try:
        for p in range(layout.partitions):
            read_partition([uri], p, layout)
    except UserError as e:
        return str(e)
    return ""


def test_every_flipped_byte_and_every_cut_is_named_with_its_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    layout = Layout(SCHEMA, 6, "p")
    uri = write(tmp_path / "rows.arrow", rng.integers(0, 1000, 300), rng.integers(0, 5, 300), layout)
    good = Path(uri).read_bytes()
    assert damaged(uri, layout) == ""
    for at in rng.choice(len(good), 200, replace=False).tolist():
        Path(uri).write_bytes(good[:at] + bytes([good[at] ^ int(rng.integers(1, 256))]) + good[at + 1 :])
        assert "rows.arrow: " in damaged(uri, layout), at
    for size in rng.choice(len(good), 50, replace=False).tolist():
        Path(uri).write_bytes(good[:size])
        assert "rows.arrow: it ends" in damaged(uri, layout), size
    for first, second in ((0, 1), (3, 2)):  # two entries in each other's place
        swapped = bytearray(good)
        a, b = (slice(i * ENTRY.size, (i + 1) * ENTRY.size) for i in (first, second))
        swapped[a], swapped[b] = good[b], good[a]
        Path(uri).write_bytes(swapped)
        assert "rows.arrow: the entry of partition" in damaged(uri, layout)


@pytest.mark.parametrize(
    ("partitions", "first", "second"),
    [(7000, 2, 2), (40, 2, 1)],
    ids=["its entry and its rows", "the beginning of the file and its rows, then rows only"],
)
def test_a_partition_of_a_remote_file_takes_two_range_requests_at_most(
    monkeypatch: pytest.MonkeyPatch, partitions: int, first: int, second: int
) -> None:
    layout = Layout(SCHEMA, partitions, "p")
    keys = np.arange(20_000)
    count = 2 * storage.PARALLEL_REQUESTS
    files = [f"memory://exchange/{partitions}-{i}.arrow" for i in range(count)]
    written = storage.read_bytes(write(files[0], keys, keys % partitions, layout))
    for uri in files[1:]:
        storage.write_bytes(uri, written)
    asked: list[tuple[str, int]] = []
    read_range = storage.read_range

    def counted(uri: str, start: int, length: int) -> bytes:
        asked.append((uri, length))
        return read_range(uri, start, length)

    monkeypatch.setattr(storage, "read_range", counted)
    monkeypatch.setattr(storage, "open_read", None)
    size = storage.size(files[0])
    for partition, requests in ((37, first), (39, second)):
        asked.clear()
        tables = list(read_each(files, partition, layout))
        assert [t["doc_key"].to_pylist() for t in tables] == [keys[keys % partitions == partition].tolist()] * count
        assert len(asked) == requests * count
        assert sum(length for uri, length in asked if uri == files[0]) < size / 10


def test_a_small_remote_file_is_asked_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    layouts = Layout(SCHEMA, 10, "small"), Layout(FEWER, 10, "small")
    with PartitionWriter("memory://exchange/small.arrow", *layouts) as writer:
        writer.add(table(np.arange(200)), np.arange(200) % 10)
        writer.add(table(np.arange(300)).select(["doc_key"]), np.arange(300) % 10, 1)
    asked = []
    read_range = storage.read_range
    monkeypatch.setattr(storage, "read_range", lambda *args: asked.append(args) or read_range(*args))
    for partition in range(10):
        one, other = read_sections(["memory://exchange/small.arrow"], partition, layouts)
        assert one["doc_key"].to_pylist() == list(range(partition, 200, 10))
        assert other["doc_key"].to_pylist() == list(range(partition, 300, 10))
    assert len(asked) == 1


def test_a_remote_file_of_one_partition_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout(SCHEMA, 1, "one")
    uri = write("memory://exchange/one.arrow", np.arange(20_000), np.zeros(20_000, np.int64), layout)
    monkeypatch.setattr(storage, "read_range", None)
    assert read_partition([uri], 0, layout)["doc_key"].to_pylist() == list(range(20_000))


@pytest.mark.parametrize("spill_bytes", [1 << 30, 1000])
def test_the_sections_of_a_file_are_read_together(tmp_path: Path, spill_bytes: int) -> None:
    layouts = Layout(SCHEMA, 5, "p"), Layout(FEWER, 5, "p")
    with PartitionWriter(str(tmp_path / "two"), *layouts, spill_bytes=spill_bytes) as writer:
        for i in range(0, 400, 50):
            keys = np.arange(i, i + 50)
            writer.add(table(keys), keys % 5)
            writer.add(table(keys[::2]).select(["doc_key"]), keys[::2] % 3, 1)
    assert writer.rows == 600
    for partition in range(5):
        one, other = read_sections([str(tmp_path / "two")], partition, layouts)
        assert one["doc_key"].to_pylist() == [k for k in range(400) if k % 5 == partition]
        assert other["doc_key"].to_pylist() == [k for k in range(0, 400, 2) if k % 3 == partition]


def test_partitions_share_the_hash_range_in_order() -> None:
    hashes = np.sort(np.random.default_rng(3).integers(0, 2**64, 20_000, dtype=np.uint64))
    parts = partition_of(hashes, 7)
    assert (np.diff(parts) >= 0).all()
    assert np.bincount(parts).min() > 2500
    assert partition_of(np.array([0, 2**64 - 1], np.uint64), 7).tolist() == [0, 6]
