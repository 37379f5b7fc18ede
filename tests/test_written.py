"""What a process wrote to an object store is read from its memory where that was asked for, and nowhere else."""

import fsspec
import pyarrow as pa
import pytest

from raypt import storage, written

OTHER = b"of another process"


@pytest.fixture
def at(tmp_path: object) -> str:
    return f"memory://{abs(hash(tmp_path))}"


def behind(uri: str) -> None:
    """Another process writes there."""
    fsspec.filesystem("memory").pipe_file(uri.removeprefix("memory://"), OTHER)


def test_a_small_file_is_as_this_process_wrote_it_within_the_block_alone(at: str) -> None:
    uri = f"{at}/a.json"
    storage.write_bytes(uri, b"mine")
    behind(uri)
    with written.own_writes():
        assert storage.read_bytes(uri) == b"mine"
    assert storage.read_bytes(uri) == OTHER


def test_a_large_one_is_asked_for(at: str) -> None:
    uri = f"{at}/a.bin"
    storage.write_bytes(uri, bytes(written.FILE_BYTES + 1))
    behind(uri)
    with written.own_writes():
        assert storage.read_bytes(uri) == OTHER


@pytest.mark.parametrize("how", ["removed", "removed with its directory", "moved", "written in pieces"])
def test_what_happened_to_it_since_is_known(at: str, how: str) -> None:
    uri = f"{at}/d/a.json"
    storage.write_bytes(uri, b"mine")
    if how == "removed":
        storage.remove_file(uri)
    elif how == "removed with its directory":
        storage.remove(f"{at}/d")
    elif how == "moved":
        storage.move(f"{at}/d", f"{at}/e")
    else:
        with storage.atomic_write(uri) as f:
            f.write(b"new")
    with written.own_writes():
        found = storage.read_if_there(uri)
    assert found == (b"new" if how == "written in pieces" else None)


def test_what_a_block_writes_and_says_it_reads_is_read_from_memory_in_it(at: str) -> None:
    uri, table = f"{at}/t.parquet", pa.table({"x": list(range(100_000))})
    with written.remembering({uri}):
        for name in (uri, f"{at}/other.parquet"):
            storage.write_parquet(name, table)
            behind(name)
        assert storage.read_parquet(uri) == table
        assert storage.read_bytes(f"{at}/other.parquet") == OTHER
    assert storage.read_bytes(uri) == OTHER


def test_of_large_files_it_keeps_what_fits(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "REMEMBERED_BYTES", 250_000)
    names = [f"{at}/{n}" for n in range(3)]
    with written.remembering(set(names)):
        for name in [*names, names[0]]:
            with storage.atomic_write(name) as f:
                f.write(bytes(100_000))
            behind(name)
        assert [storage.read_bytes(name) == bytes(100_000) for name in names] == [True, True, False]


def test_of_many_small_files_the_last_are_kept(at: str) -> None:
    names = [f"{at}/{n}" for n in range(written.ALL_BYTES // written.FILE_BYTES + 2)]
    for name in names:
        storage.write_bytes(name, bytes(written.FILE_BYTES))
        behind(name)
    with written.own_writes():
        kept = [storage.read_bytes(name) != OTHER for name in names]
    assert kept == [False] * 2 + [True] * (len(names) - 2)


def test_a_block_apart_knows_nothing_and_leaves_nothing(at: str) -> None:
    storage.write_bytes(f"{at}/a", b"first")
    with written.own_writes():
        with written.apart():
            assert written.found(f"{at}/a") is None
            with written.unchanging():
                storage.write_bytes(f"{at}/b", b"of another")
                assert written.found(f"{at}/b") == b"of another"
        assert written.found(f"{at}/a") == b"first"
        assert written.found(f"{at}/b") is None


def test_what_does_not_change_is_kept_as_it_was_read(at: str) -> None:
    with written.apart():
        storage.write_bytes(f"{at}/c", b"read")
    with written.own_writes():
        assert storage.read_bytes(f"{at}/c") == b"read"
        assert written.found(f"{at}/c") is None, "another process may write it"
    with written.unchanging():
        assert storage.read_bytes(f"{at}/c") == b"read"
        assert written.found(f"{at}/c") == b"read"
    assert written.found(f"{at}/c") is None
