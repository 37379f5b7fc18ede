"""Length, character classes, character repetition: metrics against Python, and thresholds on both sides."""

from collections import Counter

import pytest
from hypothesis import given, settings

from tests.curation import reference
from tests.curation.helpers import metrics, reasons
from tests.curation.strategies import BATCH

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@given(BATCH)
@settings(max_examples=100, deadline=None)
def test_lengths_agree_with_python(texts: list[str]) -> None:
    for row, text in zip(metrics(texts, "length"), texts, strict=True):
        lines = text.splitlines()
        assert row == {
            "chars": len(text),
            "bytes": len(text.encode()),
            "tokens": len(reference.tokens(text)),
            "lines": len(lines),
            "mean_line_chars": len(text) / len(lines) if lines else 0.0,
        }


@given(BATCH)
@settings(max_examples=100, deadline=None)
def test_character_classes_agree_with_python(texts: list[str]) -> None:
    for row, text in zip(metrics(texts, "characters"), texts, strict=True):
        n = max(len(text), 1)
        assert row["digit_fraction"] == sum(c.isdecimal() for c in text) / n
        assert row["space_fraction"] == sum(c.isspace() for c in text) / n
        assert row["alpha_fraction"] == sum(c.isalpha() for c in text) / n
        assert row["symbol_fraction"] == sum(map(reference.is_symbol, text)) / n


def is_traditional(c: str) -> bool:
    """By what the codecs say of one character: Big5's frequently used ones are A440 to C67E."""
    try:
        frequent = b"\xa4\x40" <= c.encode("big5") <= b"\xc6\x7e" and "一" <= c <= "鿿"
    except UnicodeEncodeError:
        return False
    return frequent and not c.encode("gb2312", "ignore")


def test_traditional_characters_are_those_of_big5_that_gb2312_lacks() -> None:
    every = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)
    (row,) = metrics([every], "characters")
    assert row["traditional_fraction"] == sum(map(is_traditional, every)) / len(every) > 0
    assert not any(map(is_traditional, "我们的国家台湾龙马乾著"))
    assert all(map(is_traditional, "們國龍馬灣裡"))


def repeated_fraction(text: str, n: int) -> float:
    chars = [c.lower() if c.isascii() else c for c in text if not c.isspace()]
    grams = Counter(tuple(chars[i : i + n]) for i in range(len(chars) - n + 1))
    return sum(k for k in grams.values() if k > 1) / max(sum(grams.values()), 1)


@pytest.mark.parametrize("n", [2, 5, 13])
@given(texts=BATCH)
@settings(max_examples=80, deadline=None)
def test_character_repetition_agrees_with_counting(n: int, texts: list[str]) -> None:
    got = metrics(texts, "character_repetition", gram_chars=n)
    assert [row["repeated_gram_fraction"] for row in got] == [repeated_fraction(text, n) for text in texts]


@pytest.mark.parametrize(
    ("stage", "rule", "value", "passes", "fails"),
    [
        ("length", "chars_min", 1, "x", ""),
        ("length", "chars_max", 3, "中文字", "中文字符"),
        ("length", "bytes_min", 6, "中文", "ab中"),
        ("length", "bytes_max", 6, "中文", "中文x"),
        ("length", "tokens_min", 3, "我们走", "we go"),
        ("length", "tokens_max", 2, "we go", "我们走"),
        ("length", "lines_min", 2, "a\nb", "a"),
        ("length", "lines_max", 1, "a", "a\nb"),
        ("length", "mean_line_chars_min", 2.0, "a\nbb", "a\nb"),
        ("length", "mean_line_chars_max", 2.0, "a\nbb", "abc"),
        ("length", "plain_chars_min", 4, " a-b, \u3000。", "«a» \n!!! "),
        ("characters", "digit_fraction_max", 0.3, "abcdefg123", "abcdef1234"),
        ("characters", "symbol_fraction_max", 0.4, "abcdef,.;:", "abcde,.;:!"),
        ("characters", "space_fraction_max", 0.5, "ab  ", "ab   "),
        ("characters", "upper_fraction_max", 0.5, "ABcd", "ABCd"),
        ("characters", "alpha_fraction_min", 0.25, "a12 ", "a123 "),
        ("characters", "unspaced_fraction_min", 0.3, "中文字abcdefg", "中文abcdefgh"),
        ("characters", "traditional_fraction_max", 0.0, "国语字典里的后来", "国语字典裡的后来"),
        ("character_repetition", "repeated_gram_fraction_max", 0.5, LETTERS + "0123456789abcdefghijklm",
         LETTERS * 2),
    ],
)  # fmt: skip
def test_each_threshold_on_both_sides(stage: str, rule: str, value: float, passes: str, fails: str) -> None:
    off = {"digit_fraction_max": None, "alpha_fraction_min": None} if stage == "characters" else {}
    assert reasons([passes, fails], stage, **{**off, rule: value}) == [None, f"{stage}.{rule}"]
