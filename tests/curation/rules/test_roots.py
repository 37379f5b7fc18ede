"""ROOTS's filters against a plain reading of its code, their values by language, and words of unspaced text."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.curation.rules.roots import Roots
from raypt.errors import UserError
from tests.curation.figures import report
from tests.curation.helpers import edited, metrics, reasons
from tests.curation.readings import roots
from tests.curation.text_sets import CORPORA, rows

STOP_WORDS = ("the", "a", "của", "một cách", "straße", "и")
FLAGGED = ("bad", "một của")
PIECES = [
    *(
        "the",
        "The",
        "a",
        "bad",
        "BAD",
        "của",
        "một",
        "cách",
        "Straße",
        "И",
        "word",
        "x" * 24,
        "x" * 26,
        "éé",
        "e\u0301",
    ),
    *("http://a.b", "(www.x", "a.com", "href=", "//", "a//b", "-" * 30, "Øre", "Г", "ø", "😀", "☀", "字", "\u200b"),
    *(" ", " ", " ", "  ", "\n", "\n\n", "\t", "\u3000", "\xa0", "\x00", "\x85", ".", ",", "“", "!", "1", "2024", "🇩"),
]
TEXTS = st.lists(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    folder: Path = tmp_path_factory.mktemp("lists")
    for name, words in (("stop", STOP_WORDS), ("flagged", FLAGGED)):
        (folder / name).write_text("\n".join(words), "utf-8")
    return {"stop_words": {"vi": str(folder / "stop")}, "flagged_words": {"vie": str(folder / "flagged")}}


def expected(text: str, longest: int | None, chars: int = 10, words: int = 5) -> dict[str, float]:
    plain = roots.document(text, longest)
    return {
        "word_count": len(roots.words(plain, lower=False)),
        "repeated_character_fraction": roots.repeated_characters(plain, chars),
        "repeated_word_fraction": roots.repeated_words(plain, words),
        "special_character_fraction": roots.special_share(plain),
        "stop_word_fraction": roots.listed_share(plain, set(STOP_WORDS), pairs=True),
        "flagged_word_fraction": roots.listed_share(plain, set(FLAGGED), pairs=True),
    }


@pytest.mark.parametrize("longest", [None, 25])
@settings(max_examples=150, deadline=None)
@given(texts=TEXTS)
def test_metrics_are_those_of_a_plain_reading(
    longest: int | None, texts: list[str], lists: dict[str, dict[str, str]]
) -> None:
    grams = {"character_gram": 3, "word_gram": 2}
    cut = {} if longest is None else {"cut_words": {"vi": longest}}
    found = metrics(texts, "roots", "vi", **grams, **cut, **lists)
    names = Roots.metrics
    assert [{name: row[name] for name in names} for row in found] == [expected(t, longest, 3, 2) for t in texts]


@settings(max_examples=150, deadline=None)
@given(texts=TEXTS)
def test_the_text_keeps_the_words_that_are_measured(texts: list[str]) -> None:
    for text, left in zip(texts, edited(texts, "roots", "en", cut_words={"en": 25}), strict=True):
        assert roots.document(left).split() == roots.document(text, 25).split()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("see http://a.b/c for more", "see for more"),
        ("one\nhttp://a.b two\nthree", "one\ntwo\nthree"),
        ("one\n\nwww.a.b\n\ntwo", "one\n\n\n\ntwo"),
        (f"one {'-' * 26} two", "one two"),
        (f"one {'-' * 26}two three", f"one {'-' * 26}two three"),
        ("a.common word", "word"),
        ("// stays", "// stays"),
    ],
)
def test_words_go_with_the_white_space_before_them(text: str, left: str) -> None:
    assert edited([text], "roots", "en", cut_words={"en": 25}) == [left]
    assert edited([text], "roots", "de", cut_words={"en": 25}) == [text]


def test_grams_have_the_length_of_the_language() -> None:
    text = "abcabcab abc"
    (found,) = metrics([text], "roots", "zho_Hans")
    assert found["repeated_character_fraction"] == roots.repeated_characters(text, 3)
    (found,) = metrics(["a b c d e f " * 2], "roots", "ur")
    assert found["repeated_word_fraction"] == roots.repeated_words("a b c d e f " * 2, 7)


def test_a_character_of_chinese_is_a_word_and_two_are_looked_up(tmp_path: Path) -> None:
    (tmp_path / "zh").write_text("的\n我们\n", "utf-8")
    (found,) = metrics(["我们的Python 3，好的。"], "roots", "zh", stop_words={"zh": str(tmp_path / "zh")})
    assert found["word_count"] == 6  # 我 们 的 python 好 的
    assert found["stop_word_fraction"] == 3 / 6


def test_without_a_list_the_share_is_not_asked() -> None:
    (found,) = metrics(["no list of words"], "roots", "en")
    assert found["stop_word_fraction"] is None and found["flagged_word_fraction"] is None
    assert reasons(["w1 no list of words but ten of them at the least"], "roots", "en") == [None]


def test_a_list_that_is_missing_is_named() -> None:
    with pytest.raises(UserError, match=r"curation\.roots\.stop_words\.en: there is no file /nowhere"):
        metrics(["x"], "roots", stop_words={"en": "/nowhere"})


def test_each_threshold_on_both_sides(lists: dict[str, dict[str, str]]) -> None:
    off = dict.fromkeys([key for key in Roots.model_fields if key.endswith(("_min", "_max"))])
    cases = [
        ("word_count_min", 2, "a b", "a -"),
        ("word_count_max", 2, "a b -", "a b c"),
        ("repeated_character_fraction_max", 0.2, "abcdefghijklmnop", "abcdefghij" * 3),
        ("repeated_word_fraction_max", 0.3, "a b c d e f g h", "a b c d e " * 3),
        ("special_character_fraction_max", 0.4, "abc..", "ab..."),
        ("stop_word_fraction_min", 0.5, "the x", "the x y"),
        ("flagged_word_fraction_max", 0.5, "bad x", "bad bad x"),
    ]
    for rule, value, passes, fails in cases:
        found = reasons([passes, fails], "roots", "vi", **{**off, **lists, rule: value})
        assert found == [None, f"roots.{rule}"]


@pytest.mark.skipif(not CORPORA.exists(), reason="the real corpora beside the checkout are absent")
def test_metrics_of_the_corpus_are_those_of_a_plain_reading() -> None:
    texts = [row["text"][:20_000] for name in ("web/pages_text.dev.jsonl.gz", "web/docs_text.dev.jsonl.zst")
             for row in rows(name, 150)]  # fmt: skip
    found = metrics(texts, "roots", "en", cut_words={"en": 25})
    wanted = [expected(text, 25) for text in texts]
    names = Roots.metrics[:4]
    same = sum(all(a[name] == b[name] for name in names) for a, b in zip(found, wanted, strict=True))
    report(f"roots: equal metrics on {same} of {len(texts)} documents")
    assert len(texts) > 200
    assert same >= 0.99 * len(texts)  # a capital whose lower case is two characters is written as one here
