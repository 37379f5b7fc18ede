"""Gopher quality: metrics against the plain definitions, and each threshold on both sides."""

import pytest
from hypothesis import given, settings

from raypt.curation.rules.gopher_quality import GopherQuality
from raypt.curation.stopwords import STOP_WORDS
from tests.curation import reference
from tests.curation.helpers import metrics, reasons
from tests.curation.strategies import BATCH

LONG = "the and " + "abcdefghij " * 46 + "a" * 17 + " "  # 49 words of 483 letters
FILLER = "the cats and dogs of town "  # six words, three stop words, 20 letters


@given(BATCH)
@settings(max_examples=200, deadline=None)
def test_metrics_agree_with_the_reference(texts: list[str]) -> None:
    expected = [reference.gopher_quality(text, set(STOP_WORDS["en"])) for text in texts]
    assert metrics(texts, "gopher_quality") == expected


@pytest.mark.parametrize(
    ("rule", "values", "passes", "fails"),
    [
        ("word_count_min", {}, "the and " * 25, "the and " * 24 + "the"),
        ("word_count_max", {"word_count_max": 60}, FILLER * 10, FILLER * 10 + "more"),
        ("mean_word_length_min", {}, "the and " * 30, "the and " * 29 + "to be "),
        ("mean_word_length_max", {}, LONG + "a" * 17, LONG + "a" * 18),
        ("hash_to_word_ratio_max", {}, "the #and " * 1 + FILLER * 10, FILLER * 9 + "# " * 7),
        ("ellipsis_to_word_ratio_max", {}, "... " * 6 + FILLER * 9, "... " * 7 + FILLER * 9),
        ("bullet_line_fraction_max", {}, "• the and of cats\n" * 18 + "the and of cats\n" * 2,
         "• the and of cats\n" * 19 + "the and of cats\n"),
        ("ellipsis_line_fraction_max", {"ellipsis_to_word_ratio_max": None}, "the and of cats…\n" * 6 +
         "the and of cats\n" * 14, "the and of cats…\n" * 7 + "the and of cats\n" * 13),
        ("alpha_word_fraction_min", {}, "that and houses dogs 1 " * 20, "that and houses dogs 1 " * 20 + "2"),
        ("stop_word_count_min", {}, "cats dogs the be " * 20, "cats dogs the the " * 20),
    ],
)  # fmt: skip
def test_each_threshold_on_both_sides(rule: str, values: dict[str, float], passes: str, fails: str) -> None:
    assert reasons([passes, fails], "gopher_quality", **values) == [None, f"gopher_quality.{rule}"]


def test_every_rule_can_be_switched_off() -> None:
    off = {key: None for key in GopherQuality.model_fields if key.endswith(("_min", "_max"))}
    assert reasons(["", "# ... 1 2 3", "•"], "gopher_quality", **off) == [None] * 3


@pytest.mark.parametrize(
    ("lang", "sentence"),
    [
        ("zh", "我们在北京的大学里学习中文，每天都有很多的课程。"),
        ("ja", "私は毎日大学で日本語を勉強しています。とても楽しいです。"),
        ("th", "ผมเรียนภาษาไทยที่มหาวิทยาลัยในกรุงเทพทุกวัน และชอบมาก"),
    ],
)
def test_prose_in_unspaced_scripts_passes_the_defaults(lang: str, sentence: str) -> None:
    assert reasons([sentence * 5], "gopher_quality", lang) == [None]


def test_mean_word_length_does_not_apply_to_unspaced_scripts() -> None:
    assert metrics(["我们在北京的大学里学习 NumPy"], "gopher_quality", "zh")[0]["mean_word_length"] is None


def test_mean_word_length_of_mixed_text_is_that_of_its_spaced_words() -> None:
    text = "words of this English sentence 和中文"
    assert metrics([text], "gopher_quality")[0]["mean_word_length"] == (5 + 2 + 4 + 7 + 8) / 5


def test_stop_words_are_those_of_the_documents_language() -> None:
    text = ["der Hund und die Katze"]
    assert metrics(text, "gopher_quality", "de")[0]["stop_word_count"] == 3
    assert metrics(text, "gopher_quality", "en")[0]["stop_word_count"] == 0


def test_the_stop_word_rule_does_not_apply_to_a_language_without_a_list() -> None:
    assert metrics(["one two"], "gopher_quality", "xx")[0]["stop_word_count"] is None
    assert metrics(["one two"], "gopher_quality", None)[0]["stop_word_count"] is None


def test_stop_words_can_be_given_for_a_language() -> None:
    assert metrics(["one two"], "gopher_quality", "xx", stop_words={"xx": ("two",)})[0]["stop_word_count"] == 1
