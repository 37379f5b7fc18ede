from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raypt.errors import UserError
from raypt.tokens.parts import is_heldout, part_uris, summarize_part
from tests.tokens.helpers import write_parts


def test_who_is_held_out_depends_on_key_and_seed_alone() -> None:
    keys = np.arange(10_000)
    assert np.array_equal(is_heldout(keys, 0.1, 1)[::-1], is_heldout(keys[::-1].copy(), 0.1, 1))
    assert abs(is_heldout(keys, 0.1, 1).mean() - 0.1) < 0.01
    assert (is_heldout(keys, 0.1, 1) & is_heldout(keys, 0.1, 2)).mean() < 0.02
    assert not is_heldout(keys, 0.0, 1).any()


def test_a_larger_fraction_holds_out_the_same_documents_and_more() -> None:
    small, large = (is_heldout(np.arange(10_000), f, 1) for f in (0.05, 0.1))
    assert not (small & ~large).any()


def test_a_summary_counts_documents_and_bytes_by_source_and_language(curated: list[str]) -> None:
    summary = summarize_part(curated[2])
    table = pq.read_table(curated[2]).to_pylist()
    assert summary.documents == {s: sum(r["source"] == s for r in table) for s in ("books", "web")}
    zh = [len(r["text"].encode()) for r in table if (r["source"], r["lang"]) == ("web", "zh")]
    assert summary.languages["web"]["zh"] == sum(zh)
    assert summary.bytes["web"] == sum(summary.languages["web"].values())


def test_a_summary_changes_with_any_character(curated: list[str], tmp_path: Path) -> None:
    table = pq.read_table(curated[0])
    text = table["text"].to_pylist()
    text[5] = text[5][:-1] + "x"
    other = str(tmp_path / "part-00000.parquet")
    pq.write_table(table.set_column(table.schema.get_field_index("text"), "text", [text]), other)
    assert summarize_part(other).content != summarize_part(curated[0]).content


def test_a_gap_in_the_numbering_of_parts_is_refused(tmp_path: Path) -> None:
    write_parts(tmp_path, [["web"], ["web"], ["web"]])
    (tmp_path / "part-00001.parquet").unlink()
    with pytest.raises(UserError, match=r"part-00001\.parquet is missing"):
        part_uris(str(tmp_path))


def test_a_part_without_text_column_is_refused_by_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"doc_key": [1], "source": ["a"]}), tmp_path / "part-00000.parquet")
    with pytest.raises(UserError, match=r"part-00000\.parquet: not a curated part.*text"):
        summarize_part(str(tmp_path / "part-00000.parquet"))


def test_groups_are_named_by_any_columns(curated: list[str]) -> None:
    summary = summarize_part(curated[2], by=("source", "lang"))
    table = pq.read_table(curated[2]).to_pylist()
    named = [f"{row['source']}/{row['lang']}" for row in table]
    assert summary.documents == {name: named.count(name) for name in sorted(set(named))}
    assert sum(summary.bytes.values()) == sum(summarize_part(curated[2]).bytes.values())


def test_a_group_column_that_is_not_there_is_named(curated: list[str]) -> None:
    with pytest.raises(UserError, match=r"tokens\.mixture\.by: .*part-00002\.parquet has no column 'topic'"):
        summarize_part(curated[2], by=("topic",))


def test_groups_are_named_by_metrics_of_stages_and_by_buckets_of_them(tmp_path: Path) -> None:
    topics, scores = ["a", "b", None, "a"], pa.array([0.1, 0.9, None, 0.8], pa.float32())
    own = pa.StructArray.from_arrays([pa.array(topics), scores, pa.array([1, 2, 3, 4])], ["topic", "p_a.b", "other"])
    text = pa.array(["x", "xx", "xxx", "xxxx"])
    table = {"doc_key": pa.array(range(4)), "source": pa.array(["s"] * 4), "text": text, "classify": own}
    pq.write_table(pa.table(table), tmp_path / "part.parquet")
    part = str(tmp_path / "part.parquet")
    assert summarize_part(part, by=("classify.topic",)).bytes == {"a": 5, "b": 2, "": 3}
    both = summarize_part(part, by=("classify.topic", "classify.p_a.b"), edges={"classify.p_a.b": (0.5,)})
    assert both.bytes == {"a/<0.5": 1, "b/>=0.5": 2, "/": 3, "a/>=0.5": 4}
    with pytest.raises(UserError, match=r"no column 'classify.topics'"):
        summarize_part(part, by=("classify.topics",))
