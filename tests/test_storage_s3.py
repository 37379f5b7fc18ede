"""raypt.storage against a real S3 server: how many requests each thing is, and what is absent."""

from collections.abc import Iterator

import pyarrow as pa
import pytest

from raypt import storage
from tests.s3 import S3Server, s3_server

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        storage.exists(server.uri("nothing"))  # the client's own first requests
        yield server


def test_an_object_is_written_with_one_put(s3: S3Server) -> None:
    s3.requests()
    with storage.atomic_write(s3.uri("a", "one.bin")) as f:
        f.write(b"x" * 100_000)
    storage.write_bytes(s3.uri("a", "two.bin"), b"y" * 10)
    storage.write_parquet(s3.uri("a", "three.parquet"), pa.table({"n": list(range(1000))}))
    assert s3.requests() == {"PUT": 3}


def test_a_failed_write_leaves_nothing(s3: S3Server) -> None:
    with pytest.raises(ZeroDivisionError), storage.atomic_write(s3.uri("b", "half.bin")) as f:
        f.write(b"x" * 100_000)
        raise ZeroDivisionError
    assert storage.listdir(s3.uri("b")) == []


def test_a_directory_is_listed_with_one_request(s3: S3Server) -> None:
    for i in range(5):
        storage.write_bytes(s3.uri("c", f"{i}.bin"), b"x" * i)
    s3.requests()
    assert storage.list_sizes(s3.uri("c")) == {f"{i}.bin": i for i in range(5)}
    assert s3.requests() == {"GET": 1}


def test_a_range_is_one_request_for_its_own_bytes(s3: S3Server) -> None:
    data = bytes(range(256)) * 4096
    storage.write_bytes(s3.uri("d", "big.bin"), data)
    s3.requests()
    assert storage.read_range(s3.uri("d", "big.bin"), 1000, 500) == data[1000:1500]
    assert storage.read_ranges(s3.uri("d", "big.bin"), [(0, 10), (5000, 20)]) == [data[:10], data[5000:5020]]
    assert s3.requests() == {"GET": 3}


def test_a_column_is_read_without_the_others(s3: S3Server) -> None:
    wide = pa.table({"key": list(range(50_000)), "text": [f"{i * 7919}" * 20 for i in range(50_000)]})
    storage.write_parquet(s3.uri("e", "wide.parquet"), wide)
    whole = storage.size(s3.uri("e", "wide.parquet"))
    fetched: list[int] = []
    fs, _ = storage.filesystem(s3.uri("e", "wide.parquet"))
    original = type(fs)._cat_file

    async def counted(self: object, path: str, start: int | None = None, end: int | None = None, **k: object) -> bytes:
        data: bytes = await original(self, path, start=start, end=end, **k)
        fetched.append(len(data))
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(fs), "_cat_file", counted)
        table = storage.read_parquet(s3.uri("e", "wide.parquet"), ["key"])
    assert table["key"].to_pylist() == list(range(50_000))
    # The footer is read by pyarrow in one piece of 64 KiB; the column takes some 200 KB of the 3 MB.
    assert sum(fetched) < 0.3 * whole


def test_what_is_not_there_is_absent_and_a_missing_bucket_is_not_made(s3: S3Server) -> None:
    assert not storage.exists(s3.uri("f", "none.bin"))
    assert storage.list_sizes(s3.uri("f")) == {}
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(s3.uri("f", "none.bin"))
    with pytest.raises(OSError, match=r"(?i)bucket|not exist|NoSuch"):
        storage.write_bytes("s3://raypt-no-such-bucket/x", b"x")


def test_an_error_of_the_storage_is_not_an_absence(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_bytes(s3.uri("g", "there.bin"), b"x")
    fs, _ = storage.filesystem(s3.uri("g", "there.bin"))

    def broken(*args: object, **kwargs: object) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(fs, "info", broken)
    with pytest.raises(PermissionError):
        storage.exists(s3.uri("g", "there.bin"))
