from typing import Any

import pyarrow as pa
import pytest

from raypt.dedup.elect import ClusterSummary, elect, summarise


def members(*rows: dict[str, Any]) -> pa.Table:
    """Cluster members with everything equal but what a row says."""
    base = {
        "id": None,
        "source": "web",
        "quality": 0.0,
        "bytes": 10,
        "hash_high": 0,
        "hash_low": 0,
        "root": 1,
        "priority": 0,
    }
    filled = [base | {"doc_key": i + 1} | row for i, row in enumerate(rows)]
    types = {"id": pa.string(), "quality": pa.float64(), "hash_high": pa.uint64(), "hash_low": pa.uint64()}
    return pa.table({k: pa.array([r[k] for r in filled], types.get(k)) for k in filled[0]})


def kept(table: pa.Table) -> list[int]:
    return [row["doc_key"] for row in elect(table).to_pylist() if row["kept"]]


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ({"priority": 1, "quality": -9.0, "bytes": 1}, "source priority comes first"),
        ({"quality": 0.5, "bytes": 1}, "then quality"),
        ({"bytes": 11}, "then length"),
    ],
)
def test_keep_policy_order(second: dict[str, Any], why: str) -> None:
    assert kept(members({}, second, {})) == [2], why


def test_of_equals_the_smallest_doc_key_is_kept() -> None:
    assert kept(members({"doc_key": 9}, {"doc_key": 4}, {"doc_key": 7})) == [4]


def test_one_member_of_each_cluster_is_kept() -> None:
    assert kept(members({"root": 1}, {"root": 1}, {"root": 3}, {"root": 3})) == [1, 3]


def test_a_copy_of_a_better_member_is_exact_and_a_new_text_is_fuzzy() -> None:
    table = members({"hash_low": 5}, {"hash_low": 5}, {"hash_low": 6, "bytes": 9}, {"hash_low": 6, "bytes": 8})
    reasons = {r["doc_key"]: r["reason"] for r in elect(table).to_pylist()}
    assert reasons == {1: None, 2: "dedup.exact", 3: "dedup.fuzzy", 4: "dedup.exact"}


def test_equal_texts_of_different_clusters_are_not_exact_duplicates() -> None:
    table = members({"root": 1}, {"root": 1, "hash_low": 7}, {"root": 3}, {"root": 3, "hash_low": 7})
    assert {r["reason"] for r in elect(table).to_pylist()} == {None, "dedup.fuzzy"}


def test_each_member_knows_the_size_of_its_cluster() -> None:
    rows = elect(members({"root": 1}, {"root": 3}, {"root": 1}, {"root": 1}, {"root": 3}, {"root": 7})).to_pylist()
    assert {r["doc_key"]: r["cluster_size"] for r in rows} == {1: 3, 2: 2, 3: 3, 4: 3, 5: 2, 6: 1}
    assert elect(members({}).slice(0, 0))["cluster_size"].to_pylist() == []


def test_summary_counts_sizes_and_sources() -> None:
    table = members(
        {"root": 1, "source": "wiki", "priority": 1},
        {"root": 1},
        {"root": 1},
        {"root": 4, "source": "wiki"},
        {"root": 4, "source": "books"},
    )
    summary = summarise(elect(table))
    assert summary.sizes == {3: 1, 2: 1}
    assert summary.sources == {("wiki", "web"): 2, ("wiki", "books"): 1}
    assert summary.shared == {("web", "web"): 1, ("web", "wiki"): 1, ("books", "wiki"): 1}
    assert [(c["cluster_id"], c["size"]) for c in summary.biggest] == [(1, 3), (4, 2)]


def test_summaries_add_up_and_keep_the_biggest_clusters() -> None:
    total = ClusterSummary()
    for size in range(2, 30):
        total.add(summarise(elect(members(*({"root": size} for _ in range(size))))))
    assert sum(total.sizes.values()) == 28
    assert [c["size"] for c in total.biggest] == list(range(29, 9, -1))
