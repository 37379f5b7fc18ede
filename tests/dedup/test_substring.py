"""Exact substrings against a plain suffix array over the same text, whatever the partitions, shards and pieces."""

import itertools
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt import storage
from raypt.dedup import DedupConfig, DedupResult, apply_shard, deduplicate, substring
from raypt.dedup.config import ExactConfig, FuzzyConfig, SubstringConfig
from raypt.dedup.page import dedup_section
from raypt.dedup.units import unit_cuts, unit_values, write_units
from raypt.dedup.winnow import anchors_a_unit, winnow
from raypt.ledger import Amount
from raypt.text.unicode import lower_case
from tests.dedup.reference import documents, split, tokens, write_shards
from tests.dedup.test_pipeline import mutated_corpus, words

OFF = {"exact": ExactConfig(enabled=False), "fuzzy": FuzzyConfig(enabled=False), "max_removed_fraction": None}


def repeats(texts: list[list[int]], length: int) -> set[tuple[int, int]]:
    """(text, unit) of what windows cover that occur before: sorted suffixes, those with a common prefix of `length`
    side by side, and of each run of them all but the first in the order of texts and places."""
    places = [(d, i) for d, text in enumerate(texts) for i in range(len(text))]
    places.sort(key=lambda p: texts[p[0]][p[1] :])
    covered: set[tuple[int, int]] = set()
    long = [p for p in places if len(texts[p[0]]) - p[1] >= length]
    for _, run in itertools.groupby(long, key=lambda p: texts[p[0]][p[1] : p[1] + length]):
        for d, i in sorted(run)[1:]:
            covered |= {(d, u) for u in range(i, i + length)}
    return covered


def found(texts: list[list[int]], length: int, pieces: int = 1) -> set[tuple[int, int]]:
    """The same by anchors and contexts; units are bytes, handed over in `pieces` as a reduce task reads them."""
    text = pa.array([bytes(t) for t in texts], pa.large_binary()).view(pa.large_string())
    config = SubstringConfig(enabled=True, unit="byte", length=length)
    anchors = winnow(*unit_values(text, "byte"), length)
    columns = [anchors.hashes, anchors.docs, anchors.firsts]
    columns += [v.astype(np.int16) for v in (anchors.before, anchors.windows)]
    places = pa.table(columns, schema=substring.CANDIDATES.schema)
    places = places.filter(pa.array(substring.repeated(anchors.hashes)))
    rows = places["doc_key"].to_numpy()
    contexts, own = substring.make_contexts(write_units(text, "byte"), rows, places, length)
    seen, covered = substring.Seen(config), set()
    for part in np.array_split(np.arange(contexts.num_rows), pieces):
        copies = seen.add([contexts.slice(part[0], len(part)) if len(part) else contexts.slice(0, 0)])
        for row in copies.to_pylist():
            covered |= {(row["doc_key"], u) for u in range(row["first"], row["last"])}
    for row in places.filter(pa.array(own)).to_pylist():
        last = row["first"] + row["windows"] + length - 1
        covered |= {(row["doc_key"], u) for u in range(row["first"], last)}
    return covered


few_letters = st.lists(st.lists(st.sampled_from([97, 98]), max_size=60), max_size=6)
blocks = st.lists(st.lists(st.sampled_from(["abcdefgh", "xyzxyz", "q", "0", "aaaaaa"]), max_size=8), max_size=6)


@settings(deadline=None, max_examples=150)
@given(
    few_letters | blocks.map(lambda t: [list("".join(b).encode()) for b in t]), st.integers(2, 20), st.integers(1, 3)
)
def test_what_is_cut_is_what_a_suffix_array_finds(texts: list[list[int]], length: int, pieces: int) -> None:
    assert found(texts, length, pieces) == repeats(texts, length)


def test_equal_hashes_of_other_texts_are_told_apart() -> None:
    """All grams of bytes, all windows with one hash: the text decides."""
    contexts = pa.table(
        [
            np.full(3, 7, np.uint64),
            np.arange(3),
            np.zeros(3, np.int64),
            np.zeros(3, np.int16),
            np.ones(3, np.int16),
            pa.array([b"abcd", b"abce", b"abcd"], pa.large_binary()),
        ],
        schema=substring.CONTEXTS.schema,
    )
    copies = substring.Seen(SubstringConfig(enabled=True, unit="byte", length=4)).add([contexts])
    assert copies.to_pylist() == [{"doc_key": 2, "first": 0, "last": 4}]


def test_a_notice_in_many_documents_leaves_one_context_in_memory() -> None:
    text = pa.array([b"of the same words"], pa.large_binary())
    one = [np.full(1, 7, np.uint64), np.zeros(1, np.int64), np.zeros(1, np.int64)]
    one += [np.zeros(1, np.int16), np.ones(1, np.int16)]
    contexts = pa.table([*one, text], schema=substring.CONTEXTS.schema)
    seen = substring.Seen(SubstringConfig(enabled=True, unit="byte", length=17))
    copies = [seen.add([contexts] * 10).num_rows for _ in range(5)]
    assert copies == [9, 10, 10, 10, 10]
    assert seen.contexts.num_rows == 1 and seen.counts.tolist() == [50]


@given(st.lists(st.integers(0, 3), max_size=80), st.integers(2, 24))
def test_each_window_has_one_anchor_that_equal_windows_share(text: list[int], length: int) -> None:
    found = winnow(np.array(text, np.uint8), np.array([0, len(text)]), length)
    starts = [s + i for s, n in zip(found.firsts.tolist(), found.windows.tolist(), strict=True) for i in range(n)]
    assert starts == list(range(max(0, len(text) - length + 1)))
    anchors = np.repeat(found.firsts + found.before, found.windows) - np.array(starts, np.int64)
    by_text: dict[tuple[int, ...], int] = {}
    for start, anchor in zip(starts, anchors.tolist(), strict=True):
        assert by_text.setdefault(tuple(text[start : start + length]), anchor) == anchor


def test_anchors_are_as_few_as_winnowing_promises() -> None:
    text = np.random.default_rng(0).integers(0, 2**63, 200_000).astype(np.uint64)
    share = len(winnow(text, np.array([0, len(text)]), 50).hashes) / len(text)
    assert share == pytest.approx(anchors_a_unit(50), rel=0.02)  # two standard deviations of 15,000 chosen: 0.016


def lower(token: str) -> str:
    return "".join(chr(lower_case()[ord(c)]) if ord(c) < 0x20000 else c for c in token)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cn", "Co"]), max_size=30), max_size=4))
def test_the_normal_form_is_the_tokens_in_lower_case(texts: list[str]) -> None:
    texts = [*texts, "Ⱥ Ⱦ ȺȾ a B", "价格 e\u0301É 東京ｶﾞ", "\U00020000\U000e0100x"]
    written = write_units(pa.array(texts), "token")
    values, offsets = unit_values(pa.array(texts), "token")
    assert written.offsets.tolist() == offsets.tolist() and len(written.starts) == len(values)
    for d, text in enumerate(texts):
        units = range(written.offsets[d], written.offsets[d + 1])
        forms = [bytes(written.data[written.bounds[u] : written.bounds[u + 1]]).decode() for u in units]
        assert forms == [lower(t) + " " for t in tokens(text)]
        pieces = [text.encode()[written.starts[u] : written.stops[u]].decode() for u in units]
        assert [lower(p) for p in map(str.strip, pieces)] == [lower(t) for t in tokens(text)] or any(
            unicodedata.category(c)[0] == "M" for c in text
        )


def cut(text: str, first: int, last: int, unit: str = "token") -> str:
    array = pa.array([text])
    (start,), (stop,) = unit_cuts(array, unit, np.array([0]), np.array([first]), np.array([last]))  # type: ignore[arg-type]
    return (text.encode()[:start] + text.encode()[stop:]).decode()


def test_with_tokens_goes_the_punctuation_behind_them_and_the_white_space_after() -> None:
    assert cut("One two. (Three) four", 0, 2) == "(Three) four"
    assert cut("One two. (Three) four", 2, 3) == "One two. (four"
    assert cut("One two.\n\nThree four!", 2, 4) == "One two."
    assert cut("甲乙。丙丁。", 0, 2) == "丙丁。"


def test_a_cut_of_bytes_leaves_whole_characters() -> None:
    assert cut("aé中b", 2, 5, "byte") == "aé中b"
    assert cut("aé中b", 1, 5, "byte") == "a中b"
    assert cut("aé中b", 2, 6, "byte") == "aéb"


def run(tmp_path: Path, tables: list[pa.Table], config: DedupConfig) -> tuple[list[str], DedupResult]:
    """(texts that are left in doc_key order, the result)"""
    shards = write_shards(tmp_path, tables)
    result = deduplicate(shards, config, str(tmp_path / "work"), str(tmp_path / "out"))
    texts = []
    for table, shard in zip(tables, shards, strict=True):
        name = f"shard-{shard.index:05d}.parquet"
        removed, edits = (storage.read_parquet(str(tmp_path / "work" / kind / name)) for kind in ("removed", "edits"))
        texts += apply_shard(table, removed, edits)[0]["text"].to_pylist()
    return texts, result


def substrings(**options: object) -> DedupConfig:
    return DedupConfig(**OFF, substring=SubstringConfig(**{"enabled": True, "min_words": None} | options))  # type: ignore[arg-type]


PASSAGE = "It is said that the 中文 passage stays, word for word, but once"


@pytest.mark.parametrize("unit", ["token", "byte"])
@pytest.mark.parametrize(("shards", "partitions"), [(1, 1), (3, 5)])
def test_a_passage_within_sentences_stays_only_where_it_comes_first(
    tmp_path: Path, unit: str, shards: int, partitions: int
) -> None:
    texts = [f"{words(i)} {PASSAGE} {words(50 + i)}" for i in range(6)]
    config = substrings(unit=unit, length=12 if unit == "token" else 50)
    left, result = run(
        tmp_path,
        split(documents(texts, source=list("abcabc")), shards),
        config.model_copy(update={"partitions": partitions}),
    )
    assert left[0] == texts[0]
    if unit == "token":
        assert left[1:] == [f"{words(i)} {words(50 + i)}" for i in range(1, 6)]
        assert result.account.edited == {"dedup.substring": Amount(5, 5 * (len(PASSAGE.encode()) + 1))}
    else:
        assert not any("the 中文 passage" in text for text in left[1:])
    result.account.check("dedup")
    shown = result.report["substring"]["most_frequent"][0]
    assert shown["occurrences"] == 6 and "the 中文 passage" in shown["text"]
    assert "the 中文 passage" in result.report["substring"]["longest"][0]["text"]
    assert len(result.report["substring"]["longest"]) == (
        1 if unit == "token" else len(result.report["substring"]["longest"])
    )
    assert "the 中文 passage" in dedup_section(result.report)


def test_case_and_punctuation_do_not_count_between_tokens_but_do_between_bytes(tmp_path: Path) -> None:
    texts = [f"{words(1)} {PASSAGE}", f"{words(2)} {PASSAGE.upper().replace(',', ' –')}"]
    assert run(tmp_path / "a", [documents(texts)], substrings(length=12))[0] == [texts[0], words(2)]
    assert run(tmp_path / "b", [documents(texts)], substrings(unit="byte", length=30))[0] == texts


def test_neighbouring_cuts_become_one_within_merge_gap(tmp_path: Path) -> None:
    first, second = words(5, 20), words(6, 20)
    texts = [f"{first} {second}", f"{words(7)} {first} between {second}"]
    assert run(tmp_path / "a", [documents(texts)], substrings(length=15))[0][1] == f"{words(7)} between"
    assert run(tmp_path / "b", [documents(texts)], substrings(length=15, merge_gap=1))[0][1] == words(7)


def test_a_document_of_which_too_little_is_left_is_removed_and_the_bytes_add_up(tmp_path: Path) -> None:
    texts = [f"{PASSAGE} {words(1)}", f"Few words. {PASSAGE}", f"{words(2)} {PASSAGE}"]
    left, result = run(tmp_path, [documents(texts)], substrings(length=12, min_words=50))
    assert left == [texts[0], words(2)]
    assert result.removed == {"dedup.remainder": 1}
    account = result.account
    gone = account.removed["dedup.remainder"].bytes + account.edited["dedup.substring"].bytes
    assert account.entered.bytes - gone == account.kept.bytes == sum(len(t.encode()) for t in left)


def covered(texts: list[str], length: int) -> set[tuple[int, int]]:
    names: dict[str, int] = {}
    return repeats([[names.setdefault(t, len(names)) for t in tokens(text)] for text in texts], length)


def test_a_corpus_is_cut_as_a_suffix_array_of_its_tokens_says_whatever_the_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = mutated_corpus(300, seed=2)
    expected = covered(texts, 12)
    kept = [[t for u, t in enumerate(tokens(text)) if (d, u) not in expected] for d, text in enumerate(texts)]
    config = substrings(length=12).model_copy(update={"partitions": 3})
    outcomes = []
    for name, factor, shards in (("a", 12, 1), ("b", 1 << 30, 4)):
        monkeypatch.setattr(substring, "CONTEXT_FACTOR", factor)  # of the second, each file is a piece
        left, _ = run(tmp_path / name, split(documents(texts), shards), config)
        outcomes.append(left)
    assert outcomes[0] == outcomes[1]
    assert [tokens(text) for text in outcomes[0]] == [
        t for t, full in zip(kept, texts, strict=True) if t or not tokens(full)
    ]
    assert len(expected) > 10_000
