from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raypt.dedup.exchange import partition_of, read_partition, write_partitioned


def write(path: Path, keys: np.ndarray, partition: np.ndarray, count: int, mark: str = "p") -> str:
    write_partitioned(str(path), pa.table({"doc_key": keys}), partition, count, fingerprint=mark)
    return str(path)


def test_a_partition_holds_its_rows_of_every_file_in_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    files, expected = [], []
    for i in range(3):
        keys, partition = rng.integers(0, 1000, 200), rng.integers(0, 5, 200)
        files.append(write(tmp_path / f"{i}.arrow", keys, partition, 5))
        expected += keys[partition == 3].tolist()
    assert read_partition(files, 3, fingerprint="p")["doc_key"].to_pylist() == expected


def test_empty_files_and_partitions_read_as_no_rows(tmp_path: Path) -> None:
    none = np.zeros(0, np.int64)
    uri = write(tmp_path / "e.arrow", none, none, 4)
    assert read_partition([uri], 2, fingerprint="p").num_rows == 0


def test_files_of_other_parameters_are_refused(tmp_path: Path) -> None:
    uri = write(tmp_path / "x.arrow", np.arange(3), np.zeros(3, np.int64), 1, mark="old")
    with pytest.raises(ValueError, match="parameter fingerprint 'old'"):
        read_partition([uri], 0, fingerprint="new")


def test_reading_through_an_object_store_gives_the_same_rows(tmp_path: Path) -> None:
    write_partitioned(
        "memory://exchange/x.arrow", pa.table({"doc_key": [5, 6, 7]}), np.array([1, 0, 1]), 2, fingerprint="p"
    )
    assert read_partition(["memory://exchange/x.arrow"], 1, fingerprint="p")["doc_key"].to_pylist() == [5, 7]


def test_partitions_share_the_hash_range_in_order() -> None:
    hashes = np.sort(np.random.default_rng(3).integers(0, 2**64, 20_000, dtype=np.uint64))
    parts = partition_of(hashes, 7)
    assert (np.diff(parts) >= 0).all()
    assert np.bincount(parts).min() > 2500
    assert partition_of(np.array([0, 2**64 - 1], np.uint64), 7).tolist() == [0, 6]
