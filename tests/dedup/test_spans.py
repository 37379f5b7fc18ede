import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.dedup.config import SentenceConfig
from raypt.dedup.spans import cut_repeats, mark_repeats
from raypt.dedup.verdicts import EDITS, cut_text, edited_bytes
from tests.dedup.reference import documents

spans = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 6)), max_size=60, unique=True)


@settings(deadline=None)
@given(spans, st.integers(1, 3))
def test_repeats_are_all_but_the_first_of_spans_in_too_many_documents(
    rows: list[tuple[int, int, int]], limit: int
) -> None:
    """rows: (span value, doc_key, unit), one value a place."""
    values, keys, units = (np.array([r[i] for r in rows], np.int64) for i in range(3))
    found = mark_repeats(values.astype(np.uint64), values.astype(np.uint64) * 7, keys, units, limit)
    for row, marked in zip(rows, found.tolist(), strict=True):
        value, key, unit = row
        where = sorted((k, u) for v, k, u in rows if v == value)
        first_here = min(u for k, u in where if k == key)
        often = len({k for k, _ in where}) > limit
        assert marked == ((key, unit) != where[0] if often else unit != first_here)


def cut(texts: list[str], repeats: list[tuple[int, int]], **options: object) -> tuple[list[str], list[int], list[int]]:
    """(texts after the cuts, their doc_keys, doc_keys of those that are too short)."""
    docs = documents(texts)
    config = SentenceConfig(**{"unit": "line", "length": 1, "min_words": None} | options)
    table = pa.table({"doc_key": [k for k, _ in repeats], "unit": [u for _, u in repeats]})
    edits, short = cut_repeats(docs, table, config)
    kept = docs.filter(pa.array(np.isin(docs["doc_key"].to_numpy(), edits["doc_key"].to_numpy())))
    return cut_text(kept["text"], edits).to_pylist(), edits["doc_key"].to_pylist(), short.to_pylist()


def test_a_cut_takes_its_unit_and_the_line_break_after_it() -> None:
    assert cut(["a\nb\nc"], [(0, 1)])[0] == ["a\nc"]


def test_a_cut_at_the_end_leaves_no_white_space() -> None:
    assert cut(["a\nb\n \nc\n"], [(0, 2)])[0] == ["a\nb"]


def test_cuts_that_touch_become_one() -> None:
    texts, keys, _ = cut(["a\nb\nc\nd"], [(0, 1), (0, 2)])
    assert texts == ["a\nd"]
    assert keys == [0]


def test_a_span_of_three_sentences_is_cut_whole_in_chinese() -> None:
    text = "甲说。一二三。四五六。七八九。乙说。"
    assert cut([text], [(0, 1)], unit="sentence", length=3)[0] == ["甲说。乙说。"]


def test_a_document_of_which_nothing_is_left_is_removed() -> None:
    assert cut(["a\nb", "a\nc"], [(0, 0), (0, 1), (1, 0)]) == (["c"], [1], [0])


def test_what_is_left_is_checked_against_the_length_rules() -> None:
    texts = ["one two\nx", "one two three\nx"]
    assert cut(texts, [(0, 1), (1, 1)], min_words=3) == (["one two three"], [1], [0])
    assert cut(["a\nb\nc", "a\nb"], [(0, 1), (1, 1)], min_units=2) == (["a\nc"], [0], [1])


def test_edited_bytes_count_what_is_cut() -> None:
    edits = pa.table({"doc_key": [0, 1], "starts": [[0, 5], [2]], "stops": [[3, 6], [9]]}).cast(EDITS)
    assert edited_bytes(edits).tolist() == [4, 7]
    assert edited_bytes(EDITS.empty_table()).tolist() == []
