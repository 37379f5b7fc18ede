"""The scan of a batch finds the tokens and lines of the plain definitions."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from raypt.curation import features as s
from raypt.curation.scan import scan
from raypt.text.buffers import TextBatch
from tests.curation import reference
from tests.curation.strategies import BATCH


def features(texts: list[str]) -> s.Features:
    return scan(TextBatch.from_arrow(pa.array(texts, pa.string())))


def tokens_of(f: s.Features, d: int) -> list[str]:
    data = f.text.data.tobytes()
    out = []
    for t in range(f.token_offsets[d], f.token_offsets[d + 1]):
        rest = data[f.token_start[t] : f.text.offsets[d + 1]].decode()
        out.append(rest[: f.token_chars[t]])
    return out


@given(BATCH)
@settings(max_examples=300, deadline=None)
def test_tokens_agree_with_the_reference(texts: list[str]) -> None:
    f = features(texts)
    assert [tokens_of(f, d) for d in range(len(texts))] == [reference.tokens(text) for text in texts]


@given(BATCH)
@settings(max_examples=300, deadline=None)
def test_lines_agree_with_splitlines(texts: list[str]) -> None:
    f = features(texts)
    data = f.text.data.tobytes()
    for d, text in enumerate(texts):
        lines = range(f.line_offsets[d], f.line_offsets[d + 1])
        spans = [tuple(map(int, f.line_bytes[i])) for i in lines]
        assert [data[a:b].decode() for a, b, _, _ in spans] == text.splitlines()
        assert [data[a:b].decode() for _, _, a, b in spans] == [x.strip() for x in text.splitlines()]
        assert [int(f.line_chars[i]) for i in lines] == [len(x) for x in text.splitlines()]
        assert [int(f.line_words[i]) for i in lines] == [len(reference.line_words(x)) for x in text.splitlines()]
        assert [int(f.line_longest[i]) for i in lines] == [reference.longest_word(x) for x in text.splitlines()]


@given(BATCH)
@settings(max_examples=200, deadline=None)
def test_character_counts_agree_with_python(texts: list[str]) -> None:
    counts = features(texts).counts
    for row, text in zip(counts, texts, strict=True):
        assert row[s.CHARS] == len(text)
        assert row[s.SPACES] == sum(c.isspace() for c in text)
        assert row[s.ALPHAS] == sum(c.isalpha() for c in text)
        assert row[s.SYMBOLS] == sum(reference.is_symbol(c) for c in text)
        assert row[s.HASHES] == text.count("#")
        assert row[s.ELLIPSES] == text.count("...") + text.count("…")


@given(BATCH)
@settings(max_examples=100, deadline=None)
def test_equal_tokens_and_only_equal_tokens_have_equal_hashes(texts: list[str]) -> None:
    f = features(texts)
    words = [t for d in range(len(texts)) for t in tokens_of(f, d)]
    assert len(set(words)) == len(set(f.token_hash.tolist()))
    assert len(set(zip(words, f.token_hash.tolist(), strict=True))) == len(set(words))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, world.", ["Hello", ",", "world", "."]),
        ("U.S. and J. Smith", ["U.S.", "and", "J.", "Smith"]),
        ("the USA.", ["the", "USA", "."]),
        ("fruit, e.g. apples.", ["fruit", ",", "e.g.", "apples", "."]),
        ("wait... no", ["wait", "...", "no"]),
        ("well-known a/b 3.11 x,y", ["well", "-", "known", "a", "/", "b", "3.11", "x", ",", "y"]),
        ("(see https://a.org/b-c?d=e).", ["(", "see", "https://a.org/b-c?d=e", ")", "."]),
        ("the dog's bone", ["the", "dog", "'s", "bone"]),
        ("你好，世界。", ["你", "好", "，", "世", "界", "。"]),
        ("東京へ2024年に行く", [*list("東京へ"), "2024", *list("年に行く")]),
        ("ไม่ดี", ["ไ", "ม่", "ดี"]),
        ("한국어 문장이다.", ["한국어", "문장이다", "."]),
        ("هذا نص.", ["هذا", "نص", "."]),
        ("", []),
        ("\n", []),
    ],
)
def test_tokens_of_examples(text: str, expected: list[str]) -> None:
    assert tokens_of(features([text]), 0) == expected


def test_a_sliced_array_with_nulls_is_read_at_its_offset() -> None:
    array = pa.array(["skip this", "one two", None, "three"])[1:]
    f = scan(TextBatch.from_arrow(array))
    assert [tokens_of(f, d) for d in range(3)] == [["one", "two"], [], ["three"]]


def test_a_document_of_a_million_words_is_scanned_whole() -> None:
    f = features(["word " * 1_000_000])
    assert f.token_offsets.tolist() == [0, 1_000_000]
    assert len(np.unique(f.token_hash)) == 1


def test_the_whole_of_unicode_is_read_as_single_characters() -> None:
    text = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)
    counts = features([text]).counts[0]
    assert counts[s.CHARS] == len(text)
    assert counts[s.ALPHAS] == sum(map(str.isalpha, text))
