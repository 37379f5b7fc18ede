from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raypt import storage
from raypt.artefact import Identity, Output
from raypt.errors import UserError
from raypt.tokens.store import files
from raypt.tokens.store.files import StoreShard, TokenStore, collection, shard_name, shard_uri, write_shard
from raypt.tokens.store.packing import Packed, pack

WIDTH = 17


def packed(seed: int, documents: int = 30, dtype: type = np.uint16) -> Packed:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 40, documents)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return pack(rng.integers(0, 60_000, offsets[-1]).astype(dtype), offsets, width=WIDTH, pad_id=0)


def write(root: str, shard: int = 0, dtype: type = np.uint16) -> tuple[Packed, Packed]:
    a, b = packed(2 * shard, dtype=dtype), packed(2 * shard + 1, dtype=dtype)
    sections = [("web", None, a), ("books", "en", b)]
    identity = Identity("tokens", 1)

    def maker(output: Output) -> dict[str, Any]:
        with output.open(shard_name(shard)) as f:
            placed = write_shard(f, sections, width=WIDTH, tokenizer="t")
        return {"sections": [vars(section) for section in placed]}

    collection(root).build(shard, identity, maker)
    return a, b


def damage(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_what_is_written_is_read(tmp_path: Path, dtype: type) -> None:
    a, b = write(str(tmp_path), dtype=dtype)
    shard = TokenStore(str(tmp_path)).shard(0)
    tokens, segments = shard.read(np.arange(shard.rows))
    assert tokens.dtype == dtype
    assert np.array_equal(tokens, np.concatenate([a.tokens, b.tokens]))
    assert [int(row.max()) for row in segments] == np.concatenate([np.diff(a.offsets), np.diff(b.offsets)]).tolist()


def test_sections_say_which_rows_are_of_which_source(tmp_path: Path) -> None:
    a, b = write(str(tmp_path))
    (_, first), (_, second) = TokenStore(str(tmp_path)).sections()
    assert (first.source, first.lang, first.first_row, first.rows) == ("web", None, 0, a.rows)
    assert (second.source, second.lang, second.first_row, second.rows) == ("books", "en", a.rows, b.rows)


def test_samples_of_many_shards_come_in_the_order_asked_for(tmp_path: Path) -> None:
    write(str(tmp_path), 0)
    write(str(tmp_path), 1)
    store = TokenStore(str(tmp_path), max_open=1)
    tokens, segments = store.read(np.array([1, 0, 1], np.int32), np.array([2, 0, 1]))
    for i, (shard, row) in enumerate([(1, 2), (0, 0), (1, 1)]):
        t, s = store.shard(shard).read(np.array([row]))
        assert np.array_equal(tokens[i], t[0])
        assert np.array_equal(segments[i], s[0])


def test_only_shards_with_a_ledger_count(tmp_path: Path) -> None:
    write(str(tmp_path), 0)
    write(str(tmp_path), 1)
    storage.remove(collection(str(tmp_path)).card_uri(1))
    assert TokenStore(str(tmp_path)).shards() == [0]


def test_the_same_samples_make_the_same_bytes(tmp_path: Path) -> None:
    write(str(tmp_path / "a"))
    write(str(tmp_path / "b"))
    assert (tmp_path / "a/shard-00000.tok").read_bytes() == (tmp_path / "b/shard-00000.tok").read_bytes()


def test_a_shard_without_samples_can_be_written_and_read(tmp_path: Path) -> None:
    uri = shard_uri(str(tmp_path), 0)
    with storage.atomic_write(uri) as f:
        write_shard(f, [], width=WIDTH)
    assert StoreShard(uri).rows == 0


def test_a_flipped_token_is_an_error_naming_shard_and_row(tmp_path: Path) -> None:
    write(str(tmp_path))
    path = tmp_path / "shard-00000.tok"
    shard = StoreShard(str(path))
    at = path.stat().st_size - shard.header["data_size"] + 3 * WIDTH * 2 + 5
    damage(path, at)
    fresh = StoreShard(str(path))
    fresh.read(np.array([0, 1, 2, 4]))
    with pytest.raises(UserError, match=r"shard-00000\.tok: damaged.*row 3"):
        fresh.read(np.array([2, 3]))


@pytest.mark.parametrize("array", ["segment_lengths", "segment_offsets", "row_checksums"])
def test_a_flipped_bit_in_the_index_is_found_on_opening(tmp_path: Path, array: str) -> None:
    write(str(tmp_path))
    path = tmp_path / "shard-00000.tok"
    header = StoreShard(str(path)).header
    damage(path, path.stat().st_size - header["data_size"] + header["arrays"][array]["offset"] + 1)
    with pytest.raises(UserError, match=r"shard-00000\.tok: damaged.*index"):
        StoreShard(str(path))


@pytest.mark.parametrize("at", [0, 20, 60])
def test_a_damaged_header_is_found_on_opening(tmp_path: Path, at: int) -> None:
    write(str(tmp_path))
    damage(tmp_path / "shard-00000.tok", at)
    with pytest.raises(UserError, match=r"shard-00000\.tok: damaged"):
        StoreShard(str(tmp_path / "shard-00000.tok"))


@pytest.mark.parametrize("keep", [0, 10, 400, -1])
def test_a_truncated_shard_is_found_on_opening(tmp_path: Path, keep: int) -> None:
    write(str(tmp_path))
    path = tmp_path / "shard-00000.tok"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"shard-00000\.tok: damaged"):
        StoreShard(str(path))


def test_a_missing_shard_is_an_error_naming_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"shard-00007\.tok: the token-store shard is missing"):
        TokenStore(str(tmp_path)).shard(7)


def test_a_store_on_a_remote_file_system_is_read_alike(tmp_path: Path) -> None:
    a, _ = write("memory://store")
    tokens, _ = TokenStore("memory://store").read(np.array([0], np.int32), np.array([1]))
    assert np.array_equal(tokens[0], a.tokens[1])


def test_few_rows_of_a_remote_shard_are_fetched_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = write("memory://ranged")
    expected = np.concatenate([a.tokens, b.tokens])
    fetched: list[tuple[int, int]] = []
    real = storage.read_range

    def counted(uri: str, start: int, length: int) -> bytes:
        data = real(uri, start, length)
        fetched.append((start, len(data)))
        return data

    monkeypatch.setattr(storage, "read_range", counted)
    monkeypatch.setattr(storage, "TAIL_BYTES", 0)  # else the rows of so small a file come with its index
    monkeypatch.setattr(files, "_BETWEEN_BYTES", 0)
    shard = StoreShard(shard_uri("memory://ranged", 0), ranged=True)
    opening = len(fetched)
    rows = np.array([5, 2, 3, 9, 3])
    tokens, segments = shard.read(rows)
    # Neighbours by one request, and no byte more than was asked for.
    assert sorted(length for _, length in fetched[opening:]) == [2 * WIDTH, 2 * WIDTH, 4 * WIDTH]
    assert np.array_equal(tokens, expected[rows])
    assert np.array_equal(segments, StoreShard(shard_uri("memory://ranged", 0)).read(rows)[1])


def test_rows_with_little_between_them_are_fetched_by_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = write("memory://between")
    spans: list[list[tuple[int, int]]] = []
    real = storage.read_ranges
    monkeypatch.setattr(storage, "read_ranges", lambda uri, wanted: spans.append(list(wanted)) or real(uri, wanted))
    monkeypatch.setattr(storage, "TAIL_BYTES", 0)
    monkeypatch.setattr(files, "_BETWEEN_BYTES", 2 * WIDTH)
    rows = np.array([5, 2, 3, 9])
    tokens, _ = StoreShard(shard_uri("memory://between", 0), ranged=True).read(rows)
    assert [length for _, length in spans[-1]] == [4 * 2 * WIDTH, 2 * WIDTH]  # rows 2 to 5, and 9
    assert np.array_equal(tokens, np.concatenate([a.tokens, b.tokens])[rows])


def test_a_flipped_token_is_found_in_a_range_too() -> None:
    write("memory://flipped")
    uri = shard_uri("memory://flipped", 0)
    data = bytearray(storage.read_bytes(uri))
    data[len(data) - StoreShard(uri).header["data_size"] + 3 * WIDTH * 2 + 5] ^= 0xFF
    storage.write_bytes(uri, bytes(data))
    fresh = StoreShard(uri, ranged=True)
    fresh.read(np.array([0, 1, 2, 4]))
    with pytest.raises(UserError, match=r"shard-00000\.tok: damaged.*row 3"):
        fresh.read(np.array([2, 3]))
