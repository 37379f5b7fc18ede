"""Parquet and Arrow: only what is asked for is decoded, in bounded batches, where a crash is survived."""

import base64
import datetime
import os
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as encryption
import pytest

from raypt.corpus.footers import read_footers
from raypt.corpus.formats.arrow import read_arrow
from raypt.corpus.formats.parquet import Footer, read_parquet
from raypt.corpus.records import Fault, Item, ReadRequest, Rows
from raypt.corpus.sandbox import ChildDied
from tests.corpus.reading import read_all

FIELDS = ("text", "id", "url")


def rows(n: int, first: int = 0) -> dict[str, list[Any]]:
    return {"id": [f"d{i}" for i in range(first, n)], "text": [f"第 {i} 篇 document" for i in range(first, n)]}


def read(path: Path, **options: Any) -> list[Item]:
    reader = read_parquet if path.suffix == ".parquet" else read_arrow
    request = ReadRequest(str(path), fields=FIELDS, size=path.stat().st_size, memory_bytes=1 << 30, **options)
    return list(reader(request))


def texts(items: list[Item]) -> list[str]:
    return [t for i in items if isinstance(i, Rows) for t in i.batch.column("text").to_pylist()]


def faults(items: list[Item]) -> list[tuple[str, int, int]]:
    return [(i.kind, i.row, i.count) for i in items if isinstance(i, Fault)]


# --- columns that nobody asked for -----------------------------------------------------------------------------------


class _Kms(encryption.KmsClient):
    def __init__(self, _: Any) -> None:
        encryption.KmsClient.__init__(self)

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return base64.b64decode(wrapped_key)


def write_encrypted(path: Path, table: pa.Table, column: str) -> None:
    """One column is encrypted, the footer is plain."""
    settings = encryption.EncryptionConfiguration(footer_key="f", plaintext_footer=True, column_keys={"c": [column]})
    properties = encryption.CryptoFactory(_Kms).file_encryption_properties(encryption.KmsConnectionConfig(), settings)
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)


def unused(kind: str, path: Path) -> None:
    table = pa.table(rows(3))
    if kind == "date after 9999":
        day = pa.array([2_932_897, 0, 5_000_000], pa.int32()).cast(pa.date32())
        pq.write_table(table.append_column("day", day), path)
    elif kind == "struct with a name twice":
        twice = pa.StructArray.from_arrays([pa.array([1, 2, 3]), pa.array(["x", "y", "z"])], names=["v", "v"])
        pq.write_table(table.append_column("extra", twice), path)
    elif kind == "bad UTF-8":
        buffers = [None, pa.py_buffer(np.array([0, 1, 2, 3], np.int32)), pa.py_buffer(b"\xff\xfe\xfd")]
        pq.write_table(table.append_column("bad", pa.Array.from_buffers(pa.string(), 3, buffers)), path)
    else:
        write_encrypted(path, table.append_column("secret", pa.array(["x"] * 3)), "secret")


@pytest.mark.parametrize("kind", ["date after 9999", "struct with a name twice", "bad UTF-8", "encrypted"])
def test_a_column_that_nobody_asked_for_costs_nothing(tmp_path: Path, kind: str) -> None:
    unused(kind, tmp_path / "x.parquet")
    out = read_all(tmp_path, {"name": "s", "paths": str(tmp_path / "x.parquet")})
    assert (out.texts, out.kinds, out.error) == (rows(3)["text"], [], None)


def test_columns_that_are_asked_for_come_as_text_whatever_they_hold(tmp_path: Path) -> None:
    day = pa.array([datetime.date(2024, 2, 29), None], pa.date32())
    late = pa.array([5_000_000, 1], pa.int32()).cast(pa.date32())
    twice = pa.StructArray.from_arrays([pa.array([1, 2]), pa.array([3, 4])], names=["v", "v"])
    table = pa.table({**rows(2), "day": day, "late": late, "twice": twice, "n": pa.array([1, 2], pa.uint64())})
    pq.write_table(table, tmp_path / "x.parquet")
    columns = {n: n for n in ("day", "late", "twice", "n")}
    out = read_all(tmp_path, {"name": "s", "paths": str(tmp_path / "x.parquet"), "columns": columns})
    kept = [(r["day"], r["late"], r["n"]) for r in out.rows]
    assert kept == [("2024-02-29", "15659-07-15", "1"), (None, "1970-01-02", "2")]

    assert out.kinds == []


def test_binary_text_is_text_where_it_is_utf_8(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [b"Zw\xc3\xb6lf", b"\xff\xfe", b"next"]}), tmp_path / "x.parquet")
    out = read_all(tmp_path, {"name": "s", "paths": str(tmp_path / "x.parquet")}, max_quarantined_fraction=1)
    assert out.texts == ["Zwölf", "next"]
    assert [(e["row"], e["kind"]) for e in out.quarantined] == [(1, "invalid_utf8")]


# --- bounds ----------------------------------------------------------------------------------------------------------


def bombs(kind: str, path: Path) -> None:
    """Files of some kilobytes that decode to gigabytes."""
    big = "a" * 64_000_000
    if kind == "dictionary":  # 64 MB once, 100 rows that point to it: 6.4 GB
        values = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int32()), pa.array([big]))
        pq.write_table(pa.table({"text": values}), path, compression="zstd")
    else:
        table = pa.table({"text": [big] * 8})
        pq.write_table(table, path, compression="zstd", use_dictionary=False, write_batch_size=1)


@pytest.mark.parametrize("kind", ["dictionary", "plain"])
def test_rows_that_decode_to_gigabytes_are_quarantined_in_bounded_memory(tmp_path: Path, kind: str) -> None:
    bombs(kind, tmp_path / "x.parquet")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    items = read(tmp_path / "x.parquet", max_document_bytes=20_000_000)
    assert texts(items) == []
    lost = faults(items)
    assert sum(count for _, _, count in lost) == (100 if kind == "dictionary" else 8)
    # Here nothing of the 64 MB arrives; the child's memory is bounded by its own limit.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64_000


def test_one_text_over_the_limit_does_not_cost_its_neighbours(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b" * 5000, "c", "d" * 6000, "e" * 7000, "f"]})
    pq.write_table(table, tmp_path / "x.parquet")
    items = read(tmp_path / "x.parquet", max_document_bytes=1000)
    assert texts(items) == ["a", "c", "f"]
    assert [(i.row, i.kind, i.nbytes) for i in items if isinstance(i, Fault)] == [
        (1, "too_long", 5000),
        (3, "too_long", 6000),
        (4, "too_long", 7000),
    ]


def test_rows_of_unequal_size_come_in_batches_of_about_the_size_asked_for(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["x" * 10_000] * 2000}), tmp_path / "x.parquet", use_dictionary=False)
    items = read(tmp_path / "x.parquet", batch_bytes=1 << 20)
    assert max(i.batch.nbytes for i in items if isinstance(i, Rows)) < 1.2 * (1 << 20)
    assert len(texts(items)) == 2000


# --- damage ----------------------------------------------------------------------------------------------------------


def test_an_encrypted_column_is_an_error_with_the_files_name(tmp_path: Path) -> None:
    write_encrypted(tmp_path / "x.parquet", pa.table(rows(3)), "text")
    assert faults(read(tmp_path / "x.parquet")) == [("broken_rows", 0, 3)]


def test_a_file_that_kills_its_reader_is_found_among_good_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"{i}.parquet" for i in range(9)]
    for path in paths:
        pq.write_table(pa.table(rows(3)), path)
    monkeypatch.setattr("raypt.corpus.footers.footer_of", _dies_on_five)
    # The child imports this module by name: what it is asked for is the patched function's own code.
    monkeypatch.setattr("raypt.corpus.footers._footers", _footers_dying_on_five)
    found = read_footers([str(p) for p in paths], None)
    assert [isinstance(f, Footer) for f in found] == [i != 5 for i in range(9)]
    assert isinstance(found[5], ChildDied)


def _dies_on_five(uri: str) -> Footer:
    if uri.endswith("5.parquet"):
        os.abort()
    return Footer(("text",), ((3, 100),))


def _footers_dying_on_five(uris: list[str]) -> list[Footer]:
    return [_dies_on_five(uri) for uri in uris]


def test_a_damaged_row_group_costs_its_own_rows_and_the_next_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table(rows(300)), path, row_group_size=100, compression="zstd", write_page_checksum=True)
    metadata = pq.read_metadata(path)
    column = metadata.row_group(1).column(1)
    start = column.dictionary_page_offset or column.data_page_offset
    data = bytearray(path.read_bytes())
    for at in range(start + column.total_compressed_size // 2, start + column.total_compressed_size // 2 + 20):
        data[at] ^= 0x5A
    path.write_bytes(bytes(data))
    items = read(path)
    got = texts(items)
    assert got[:100] == rows(100)["text"]
    assert got[-100:] == rows(300, 200)["text"]
    [(kind, row, count)] = faults(items)
    assert kind == "broken_rows"
    assert 100 <= row < 200
    assert row + count == 200
    assert len(got) == 300 - count


@pytest.mark.parametrize("damage", ["no footer", "cut", "garbage"])
def test_a_file_without_a_readable_footer_is_one_broken_file_with_all_its_bytes(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table(rows(300)), path)
    data = path.read_bytes()
    path.write_bytes({"no footer": data[:-8], "cut": data[: len(data) // 2], "garbage": os.urandom(5000)}[damage])
    [fault] = read(path)
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.nbytes) == ("broken_file", path.stat().st_size)


def test_a_broken_parquet_file_ends_the_run_at_its_start_unless_broken_files_are_quarantined(tmp_path: Path) -> None:
    pq.write_table(pa.table(rows(30)), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 is all there is PAR1")
    source = {"name": "s", "paths": str(tmp_path / "*.parquet")}
    with pytest.raises(Exception, match=r"b\.parquet is not a readable Parquet file"):
        read_all(tmp_path, source)
    out = read_all(tmp_path, source, broken_files="quarantine")
    assert (len(out.texts), out.kinds, out.error) == (30, ["broken_file"], None)
    assert out.account.lost_bytes["broken_file"] == 25


# --- Arrow -----------------------------------------------------------------------------------------------------------


def write_arrow(path: Path, table: pa.Table, stream: bool, rows_a_batch: int = 100, **options: Any) -> None:
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as f, new(f, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, rows_a_batch)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_arrow_streams_and_files_read_the_same(tmp_path: Path, stream: bool, compression: str | None) -> None:
    table = pa.table({**rows(350), "unused": pa.array(range(350))})
    write_arrow(tmp_path / "x.arrow", table, stream, compression=compression)
    items = read(tmp_path / "x.arrow")
    assert texts(items) == rows(350)["text"]
    assert [i.row for i in items if isinstance(i, Rows)] == [0, 100, 200, 300]
    assert all(i.batch.schema.names == ["id", "text"] for i in items if isinstance(i, Rows))


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.95])
def test_a_cut_arrow_stream_is_kept_up_to_the_cut_and_broken(tmp_path: Path, cut: float) -> None:
    write_arrow(tmp_path / "x.arrow", pa.table(rows(350)), stream=True)
    data = (tmp_path / "x.arrow").read_bytes()
    (tmp_path / "x.arrow").write_bytes(data[: int(len(data) * cut)])
    items = read(tmp_path / "x.arrow")
    got = texts(items)
    assert got == rows(350)["text"][: len(got)]
    assert len(got) < 350
    assert [kind for kind, _, _ in faults(items)] == ["broken_file"]


def test_a_stream_cut_between_two_batches_lacks_its_end_mark(tmp_path: Path) -> None:
    write_arrow(tmp_path / "x.arrow", pa.table(rows(100)), stream=True)
    data = (tmp_path / "x.arrow").read_bytes()
    (tmp_path / "x.arrow").write_bytes(data[:-8])
    items = read(tmp_path / "x.arrow")
    assert len(texts(items)) == 100
    assert [kind for kind, _, _ in faults(items)] == ["broken_file"]


def test_what_stands_behind_the_end_of_a_stream_is_said_to_be_unread(tmp_path: Path) -> None:
    write_arrow(tmp_path / "x.arrow", pa.table(rows(200)), stream=True)
    data = (tmp_path / "x.arrow").read_bytes()
    (tmp_path / "x.arrow").write_bytes(data + data)
    items = read(tmp_path / "x.arrow")
    assert texts(items) == rows(200)["text"]
    # The end mark counts as unread too: what was read ends with the last batch.
    assert [(i.kind, i.nbytes) for i in items if isinstance(i, Fault)] == [("broken_file", len(data) + 8)]


def test_what_save_to_disk_writes_beside_its_data_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "set" / "train").mkdir(parents=True)
    write_arrow(tmp_path / "set" / "train" / "data-00000-of-00001.arrow", pa.table(rows(5)), stream=True)
    (tmp_path / "set" / "train" / "dataset_info.json").write_text('{"features": {}}')
    (tmp_path / "set" / "train" / "state.json").write_text("{}")
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    out = read_all(tmp_path, {"name": "s", "paths": str(tmp_path / "set")})
    assert (out.texts, out.kinds) == (rows(5)["text"], [])
    assert out.manifest.skipped["s"]["beside data, not data"]["count"] == 3
