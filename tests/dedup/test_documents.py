from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raypt import storage
from raypt.dedup import DedupConfig, DedupShard, deduplicate
from raypt.dedup.documents import BATCH_BYTES, BATCH_ROWS, batch_rows, live_rows, read_live, read_some
from raypt.dedup.pipeline import _bounds
from raypt.dedup.plan import MAP_TASKS, group_bounds, inspect_shard
from tests.dedup.reference import documents, removed_keys, write_shards


def test_live_rows_are_those_without_a_reason() -> None:
    decisions = pa.table({"doc_key": [3, 1, 2], "reason": [None, "pii.x", None]})
    assert live_rows(np.array([1, 2, 3, 4]), decisions).tolist() == [False, True, True, True]


def test_reading_leaves_out_what_is_removed_and_adds_a_missing_id(tmp_path: Path) -> None:
    docs, decisions = str(tmp_path / "docs.parquet"), str(tmp_path / "decided.parquet")
    storage.write_parquet(docs, documents(["a", "b", "c"]).drop_columns("id"))
    storage.write_parquet(decisions, pa.table({"doc_key": [0, 1, 2], "reason": ["x.y", None, None]}))
    shard = inspect_shard(DedupShard(0, docs, decisions))
    (batch,) = read_live(shard, ["doc_key", "id", "text"])
    assert batch["text"].to_pylist() == ["b", "c"]
    assert batch["id"].null_count == 2


@pytest.mark.parametrize(("length", "expected"), [(10, BATCH_ROWS), (1 << 20, 32), (3 * BATCH_BYTES, 1)])
def test_long_documents_are_read_few_at_a_time(tmp_path: Path, length: int, expected: int) -> None:
    texts = [chr(97 + i) * length for i in range(2)]
    storage.write_parquet(str(tmp_path / "d.parquet"), documents(texts), compression="none", use_dictionary=False)
    found = batch_rows(pq.read_metadata(tmp_path / "d.parquet"))
    assert found == expected or (expected == 32 and 30 <= found <= 32)


def test_some_documents_are_found_in_their_row_groups(tmp_path: Path) -> None:
    uri = str(tmp_path / "docs.parquet")
    storage.write_parquet(uri, documents([f"text {i}" for i in range(100)], shard=2), row_group_size=10)
    keys = [(2 << 32) + i for i in (0, 37, 38, 99)]
    assert read_some(uri, keys) == {key: f"text {key & 0xFFFFFFFF}" for key in keys}
    assert read_some(uri, []) == {}


def test_a_mega_document_among_small_ones_is_deduplicated(tmp_path: Path) -> None:
    mega = " ".join(f"w{i}" for i in range(600_000))
    shards = write_shards(tmp_path, [documents(["small one", mega, mega.replace("w77 ", "x77 "), "small two"])])
    deduplicate(shards, DedupConfig(), str(tmp_path / "work"), str(tmp_path / "out"))
    assert removed_keys(tmp_path / "work", shards) == {2: "dedup.fuzzy"}


def test_small_shards_are_taken_together_and_big_ones_alone() -> None:
    assert group_bounds([4] * 8, 8) == [0, 2, 4, 6, 8]
    assert group_bounds([100, 1, 1, 1, 100], 8) == [0, 1, 4, 5]
    assert group_bounds([5, 5], 100) == [0, 2]
    assert group_bounds([7], 1) == [0, 1]


def test_where_there_is_more_text_a_group_has_up_to_eight_times_as_much() -> None:
    assert len(group_bounds([8] * 64, 8)) - 1 == 64
    assert len(group_bounds([8] * 256, 8)) - 1 == 64
    assert len(group_bounds([8] * 1024, 8)) - 1 == 128


def test_on_an_object_store_a_group_has_up_to_64_times_as_much() -> None:
    def groups(shards: int, task_bytes: int) -> int:
        return len(_bounds([8] * shards, task_bytes, "s3://b/work")) - 1

    assert [groups(n, 8) for n in (2, 16, 64, 1024, 2048)] == [1, 8, 8, 16, 32]
    assert _bounds([8] * 4, 8, "/a/work") == [0, 1, 2, 3, 4]


def test_there_are_at_most_so_many_groups_whatever_the_shards() -> None:
    for sizes in ([1000] * (10 * MAP_TASKS), [0] * (3 * MAP_TASKS), list(range(2 * MAP_TASKS))):
        bounds = group_bounds(sizes, 1)
        assert bounds[0] == 0
        assert bounds[-1] == len(sizes)
        assert bounds == sorted(set(bounds))
        assert MAP_TASKS / 3 < len(bounds) - 1 <= MAP_TASKS
