import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raypt.dedup.sentences import UNITS, hash_spans, hash_units, split


def pieces(text: str, unit: str = "sentence") -> list[str]:
    starts, _ = split(pa.array([text]), unit)
    data = text.encode()
    return [data[a:b].decode() for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One. ", "Two! ", "Three? ", "Four"]),
        ('He said "Go." Then left.', ['He said "Go." ', "Then left."]),
        ("By J. Smith of e.g. this. End", ["By J. Smith of e.g. this. ", "End"]),
        ("Version 3.5 is out... really", ["Version 3.5 is out... really"]),
        ("A line\nnext line", ["A line\n", "next line"]),
        ("我来了。你呢？“好！”他说。再见", ["我来了。", "你呢？", "“好！”", "他说。", "再见"]),
        ("これは文です。「そうですか？」と言った。", ["これは文です。", "「そうですか？」", "と言った。"]),
        ("मैं यहाँ हूँ। तुम कहाँ हो?", ["मैं यहाँ हूँ। ", "तुम कहाँ हो?"]),
        ("هل أنت هنا؟ نعم.", ["هل أنت هنا؟ ", "نعم."]),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected


def test_lines_and_paragraphs() -> None:
    text = "a. b\nc\n \nd。e\n\n\nf"
    assert pieces(text, "line") == ["a. b\n", "c\n \n", "d。e\n\n\n", "f"]
    assert pieces(text, "paragraph") == ["a. b\nc\n \n", "d。e\n\n\n", "f"]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.sampled_from(sorted(UNITS)))
def test_units_joined_are_the_text(text: str, unit: str) -> None:
    assert "".join(pieces(text, unit)) == text


def test_case_punctuation_and_white_space_do_not_change_the_hash_of_a_unit() -> None:
    units = hash_units(pa.array(["The end is near. Next one", "the END -- is near!\n Next, one"]), "sentence")
    assert units.hashes[:2].tolist() == units.hashes[2:].tolist()
    assert units.hashes[0] != units.hashes[1]


def test_a_unit_without_words_belongs_to_a_neighbour() -> None:
    units = hash_units(pa.array(["* * *\none\n---\ntwo\n***"]), "line")
    assert units.starts.tolist() == [0, 14]
    assert units.words.tolist() == [1, 1]


def test_spans_are_all_windows_of_consecutive_units_of_one_document() -> None:
    units = hash_units(pa.array(["a\nb\nc\nd", "b\nc", "", "b\nc\nd"]), "line")
    high, low, docs, first = hash_spans(units.hashes, units.offsets, 3)
    assert list(zip(docs.tolist(), first.tolist(), strict=True)) == [(0, 0), (0, 1), (3, 0)]
    assert high[1] == high[2] != high[0]
    assert low[1] == low[2] != low[0]


def test_a_span_depends_on_the_order_of_its_units() -> None:
    units = hash_units(pa.array(["a\nb", "b\na"]), "line")
    high, low, _, _ = hash_spans(units.hashes, units.offsets, 2)
    assert high[0] != high[1]
    assert low[0] != low[1]
