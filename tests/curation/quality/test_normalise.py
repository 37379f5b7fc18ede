"""raypt.curation.quality.normalise: the declared normalisations against plain references."""

import re

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.curation.quality.normalise import _KIND, normalise

texts = st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=60), max_size=6)


def slow_words_v1(text: str) -> str:
    out = []
    for c in text:
        kind = _KIND[ord(c)] if ord(c) < 0x10000 else (2 if 0x20000 <= ord(c) < 0x40000 else 1)
        low = c.lower()
        if ord(c) < 0x2000 and len(low) == 1 and len(low.encode()) == len(c.encode()):
            c = low
        out.append({0: " ", 1: c, 2: f" {c} "}[int(kind)])
    return re.sub(" +", " ", "".join(out)).strip(" ")


@settings(deadline=None)
@given(texts)
def test_words_v1_agrees_with_a_plain_reference_on_all_planes(values: list[str]) -> None:
    assert normalise(pa.array(values, pa.string()), "words-v1", 10**6).to_pylist() == [slow_words_v1(v) for v in values]


@settings(deadline=None)
@given(texts, st.integers(1, 40))
def test_the_bound_cuts_at_a_character_and_never_inside_one(values: list[str], bound: int) -> None:
    cut = [v.encode()[:bound].decode(errors="ignore") for v in values]
    assert normalise(pa.array(values, pa.string()), "plain", bound).to_pylist() == [c.replace("\n", " ") for c in cut]
    assert normalise(pa.array(values, pa.string()), "words-v1", bound).to_pylist() == [slow_words_v1(c) for c in cut]


def test_chinese_is_split_into_characters_and_english_into_lower_case_words() -> None:
    text = pa.array(["他是Linux用户，\n用了 10年。", "It's   FINE, really.\tÄRGER"])
    assert normalise(text, "words-v1", 1000).to_pylist() == [
        "他 是 linux 用 户 ， 用 了 10 年 。",
        "it's fine , really . ärger",
    ]


def test_control_words_of_fasttext_do_not_survive() -> None:
    [out] = normalise(pa.array(["a </s> b __label__ref c\x00d\ne"]), "words-v1", 1000).to_pylist()
    assert out == "a < / s > b _ _ label _ _ ref c d e"


def test_null_and_sliced_and_chunked_text_is_read_where_it_lies() -> None:
    text = pa.chunked_array([["zero", "ONE", None], ["two\nThree"]]).slice(1)
    assert normalise(text, "words-v1", 1000).to_pylist() == ["one", "", "two three"]
    assert normalise(pa.array(["a", "B c", "d"]).slice(1, 1), "words-v1", 1000).to_pylist() == ["b c"]
    assert normalise(pa.array([], pa.string()), "words-v1", 1000).to_pylist() == []
