"""C4: the text that is left and the metrics against the plain definition, and each rule on both sides."""

import pytest
from hypothesis import given, settings

from raypt.curation.tagger import Tagger
from tests.curation import reference
from tests.curation.helpers import config, edited, metrics, reasons, table
from tests.curation.strategies import BATCH

GOOD = "The cat sat on the mat. It was a good cat. It slept.\n"


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("words_min", [0, 3])
@given(texts=BATCH)
@settings(max_examples=150, deadline=None)
def test_text_and_metrics_agree_with_the_reference(terminal: bool, words_min: int, texts: list[str]) -> None:
    settings = config("c4", terminal_punctuation=terminal, line_word_count_min=words_min)
    out = Tagger(settings).tag(table(texts))
    expected = [reference.c4(text, terminal=terminal, words_min=words_min) for text in texts]
    assert out.column("text").to_pylist() == [text for text, _ in expected]
    got = [{k: row[k] for k in expected[0][1]} for row in out.column("c4").to_pylist()] if texts else []
    assert got == [counts for _, counts in expected]


def test_a_line_of_nothing_but_a_citation_has_no_end_even_behind_a_document_that_has_one() -> None:
    settings = config("c4", terminal_punctuation=True, line_word_count_min=0)
    out = Tagger(settings).tag(table([".", "[]"]))
    assert [row["sentence_count"] for row in out.column("c4").to_pylist()] == [1, 0]


@given(BATCH)
@settings(max_examples=150, deadline=None)
def test_every_byte_that_is_cut_has_a_reason(texts: list[str]) -> None:
    out = Tagger(config("c4", terminal_punctuation=True)).tag(table(texts))
    for row in out.select(["source_bytes", "text_bytes", "c4"]).to_pylist():
        cuts = {k: v for k, v in row["c4"].items() if k.startswith("cut_bytes_")}
        assert row["source_bytes"] - row["text_bytes"] == sum(cuts.values())
        assert min(cuts.values()) >= 0


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("one two three", "one two three"),
        ("one two", None),
        ("  indented line here \t", "indented line here"),
        ("see this " + "x" * 1000, "see this " + "x" * 1000),
        ("see this " + "x" * 1001, None),
        ("Please enable JavaScript now", None),
        ("read our Privacy Policy here", None),
        ("a cookie is a biscuit", "a cookie is a biscuit"),
        ("a fact.[1] another[23] one[]", "a fact. another one"),
        ("History[edit] of the town[citation needed]", "History of the town"),
        ("an array[i] stays here", "an array[i] stays here"),
        ("我喜欢猫。", "我喜欢猫。"),
        ("好。", None),
        ("ฉันชอบแมว", "ฉันชอบแมว"),
    ],
)
def test_lines_that_stay_and_lines_that_go(line: str, kept: str | None) -> None:
    assert edited([f"{GOOD}{line}\n"], "c4") == [GOOD.strip() + (f"\n{kept}" if kept else "")]


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("It ends with a full stop.", True),
        ("Does it end well?", True),
        ('He said "yes"', True),
        ("It ends in an ellipsis...", False),
        ("It ends in an ellipsis…", False),
        ("A heading without an end", False),
        ("It ends in a citation.[12]", True),
        ("他说：“这样很好。”", True),
        ("这是一个标题", False),
        ("これは文です。", True),
        ("यह एक वाक्य है।", True),
        ("هل هذا سؤال؟", True),
        ("ประโยคภาษาไทยไม่มีจุด", True),
    ],
)
def test_the_terminal_punctuation_rule_knows_every_script(line: str, kept: bool) -> None:
    (text,) = edited([GOOD + line], "c4", terminal_punctuation=True, line_word_count_min=None, citations=False)
    assert (line in text) == kept or "[12]" in line
    if "[12]" in line:
        assert edited([line], "c4", terminal_punctuation=True) == [line.removesuffix("[12]")]


@pytest.mark.parametrize(
    ("rule", "passes", "fails"),
    [
        ("lorem_ipsum_line_count_max", GOOD * 2 + "Lorem sit ipsum.", GOOD * 2 + "Lorem ipsum sit."),
        ("curly_bracket_line_count_max", GOOD * 2 + "if (x) [ y ]", GOOD * 2 + "if (x) { y }"),
        ("sentence_count_min", GOOD + "So it is. All good here", GOOD + "And so it is."),
    ],
)
def test_each_document_rule_on_both_sides(rule: str, passes: str, fails: str) -> None:
    assert reasons([passes, fails], "c4") == [None, f"c4.{rule}"]


def test_a_rule_asks_only_about_lines_that_stay() -> None:
    assert reasons([GOOD * 2 + "x {"], "c4") == [None]  # the line is too short to stay


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", 3),
        ("It costs 3.50 in the U.S. today", 1),
        ("He said “yes.” Then he left.", 2),
        ("他来了。我走了！为什么？", 3),
        ("文です。次の文です。", 2),
        ("ฉันชอบแมว แต่เขาชอบหมา", 2),
        ("no end", 1),
        ("We need plan B. Then we go home. It works.", 3),
        ("He lived in World War I. The war was long.", 2),
        ("He got an A. She got a B. They got a C.", 3),
        ("It came at 5 p.m. The door was open.", 2),
        ("J. R. R. Tolkien and J. Van Dyke wrote it. He was old.", 2),
        ("It was built in 1999. The house is old.", 2),
        ("Water is H2O. It is wet.", 2),
        ("版本是A.我们用它.结果是5.很好.", 4),
        ("1.概述", 1),
    ],
)
def test_sentences_are_counted_in_every_script(text: str, expected: int) -> None:
    assert metrics([text], "c4", line_word_count_min=None)[0]["sentence_count"] == expected


def test_chinese_prose_passes_the_defaults_unchanged() -> None:
    text = "我们在北京的大学里学习中文。\n每天都有很多的课程。\n老师很好。同学也很好！\n你呢？他呢？"
    assert reasons([text], "c4", "zh") == [None]
    assert edited([text], "c4", "zh", line_word_count_min=2) == [text]
