"""Gopher repetition: metrics against the plain definitions, and each threshold on both sides."""

from math import ceil

import pytest
from hypothesis import given, settings

from raypt.curation.rules.gopher_repetition import GopherRepetition
from tests.curation import reference
from tests.curation.helpers import metrics, reasons
from tests.curation.strategies import BATCH


def words(n: int, start: int = 0) -> str:
    """n different words of four letters, each followed by a space."""
    letters = ((chr(97 + i // 676 % 26), chr(97 + i // 26 % 26), chr(97 + i % 26)) for i in range(start, start + n))
    return "".join(f"{a}{b}{c}x " for a, b, c in letters)


@given(BATCH)
@settings(max_examples=300, deadline=None)
def test_metrics_agree_with_the_reference(texts: list[str]) -> None:
    assert metrics(texts, "gopher_repetition") == [reference.gopher_repetition(text) for text in texts]


def test_metrics_of_long_repetitive_documents_agree_with_the_reference() -> None:
    texts = [words(5) * 400, words(3000), words(40) * 3 + words(500) + words(9) * 20, "中文的重复文本" * 300]
    assert metrics(texts, "gopher_repetition") == [reference.gopher_repetition(text) for text in texts]


def lines(different: int, repeated: int) -> str:
    """Lines of one word: `different` distinct ones, and `repeated` repetitions of the first."""
    text = words(different).split()
    return "\n".join(text + [text[0]] * repeated)


ONLY = dict.fromkeys(GopherRepetition.model_fields)


@pytest.mark.parametrize(
    ("rule", "passes", "fails"),
    [
        ("duplicate_line_fraction_max", lines(14, 6), lines(13, 7)),
        # 4 characters and a line feed a line, none after the last: 20 of 100 characters, then 20 of 99
        ("duplicate_line_char_fraction_max", lines(15, 5) + " ", lines(15, 5)),
        ("duplicate_paragraph_fraction_max", lines(14, 6).replace("\n", "\n\n"), lines(13, 7).replace("\n", "\n\n")),
        ("duplicate_paragraph_char_fraction_max", lines(8, 3).replace("\n", "\n\n"), lines(7, 3).replace("\n", "\n\n")),
        # the 2-gram has 9 characters and occurs twice: 18 of 90, then of 89
        ("top_2_gram_char_fraction_max", words(2) * 2 + words(14, 2), words(2) * 2 + words(13, 2) + " " * 4),
        ("top_3_gram_char_fraction_max", words(3) * 2 + words(26, 3), words(3) * 2 + words(25, 3)),
        ("top_4_gram_char_fraction_max", words(4) * 2 + words(40, 4), words(4) * 2 + words(39, 4)),
        *[
            (f"duplicate_{n}_gram_char_fraction_max", words(n) * 2 + " " * (ceil(4 * n / limit) - 10 * n),
             words(n) * 2 + " " * (ceil(4 * n / limit) - 10 * n - 1))
            for n, limit in ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.1))
        ],
    ],
)  # fmt: skip
def test_each_threshold_on_both_sides(rule: str, passes: str, fails: str) -> None:
    default = GopherRepetition.model_fields[rule].default
    got = reasons([passes, fails], "gopher_repetition", **{**ONLY, rule: default})
    assert got == [None, f"gopher_repetition.{rule}"]


def test_a_repeated_phrase_without_spaces_is_found() -> None:
    (reason,) = reasons(["加入购物车立即购买" * 20], "gopher_repetition", "zh")
    assert reason == "gopher_repetition.top_3_gram_char_fraction_max"


def test_a_document_without_repetition_passes() -> None:
    assert reasons([words(500)], "gopher_repetition") == [None]


def test_a_million_words_are_measured() -> None:
    got = metrics(["word " * 1_000_000], "gopher_repetition")[0]
    assert got["duplicate_10_gram_char_fraction"] == pytest.approx(0.8, abs=1e-4)
