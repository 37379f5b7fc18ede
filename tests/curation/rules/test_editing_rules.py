"""RefinedWeb's line-wise corrections and the removal of sentences made of repeated phrases."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.curation.rules.refinedweb_lines import RefinedWebLines
from raypt.curation.tagger import Tagger
from tests.curation import reference
from tests.curation.helpers import config, edited, metrics, reasons, table
from tests.curation.strategies import BATCH, NEWLINES

PROSE = "This is a line of prose with ten words in it."


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("MOSTLY CAPITALS here", None),
        ("HALF caps", "HALF caps"),
        ("ABC def", "ABC def"),
        ("ЗАГОЛОВОК СТРАНИЦЫ", None),
        ("12345", None),
        ("12345 67", "12345 67"),
        ("3 likes", None),
        ("1,234 Comments", None),
        ("5.2M views", None),
        ("1.2万 阅读", None),
        ("3 likes more", "3 likes more"),
        ("3 unlikes", "3 unlikes"),
        ("likes 3", "likes 3"),
        ("Home", None),
        ("两个字", "两个字"),
        ("Your items in cart now", "Your  now"),
        ("Sign-in or register", " or register"),
        ("The news of today Read more...", "The news of today "),
        ("Read more... about it", "Read more... about it"),
        ("items in cart", None),
        (f"{PROSE} {PROSE} items in cart", f"{PROSE} {PROSE} items in cart"),
        ("    indented code = 1", "    indented code = 1"),
        ("", ""),
    ],
)
def test_lines_that_stay_and_lines_that_go(line: str, left: str | None) -> None:
    expected = f"{PROSE}\n{PROSE}" if left is None else f"{PROSE}\n{left}\n{PROSE}"
    assert edited([f"{PROSE}\n{line}\n{PROSE}"], "refinedweb_lines") == [expected]


def test_a_document_that_loses_too_many_words_goes() -> None:
    passes, fails = "\n".join([*[PROSE] * 19, "HI YOU"]), "\n".join([*[PROSE] * 3, "HI YOU"])
    assert reasons([passes, fails], "refinedweb_lines") == [None, "refinedweb_lines.cut_word_fraction_max"]
    assert metrics([fails], "refinedweb_lines")[0]["cut_word_fraction"] == 2 / 35


def test_line_rules_can_be_switched_off() -> None:
    text = f"{PROSE}\nCAPS\n123\n3 likes\n{PROSE}"
    off = {"line_upper_fraction_max": None, "numeric": False, "counter_words": (), "line_word_count_min": None}
    assert edited([text], "refinedweb_lines", **off) == [text]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Good text here. Buy now buy now buy now buy now buy now. More good text.", "Good text here. More good text."),
        ("First line.\nspam spam spam spam spam spam\nLast line.", "First line.\nLast line."),
        ("真的很好。哈哈哈哈哈哈哈哈！我们走吧。", "真的很好。我们走吧。"),
        ("Ha ha ha he said.", "Ha ha ha he said."),
        ("It is what it is and that is that.", "It is what it is and that is that."),
        ("| | | | | |", "| | | | | |"),
        ("Only spam spam spam spam spam", ""),
        ("It ends well. no no no no no no no", "It ends well."),
        ("", ""),
    ],
)
def test_sentences_of_repeated_phrases_go(text: str, left: str) -> None:
    (got,) = edited([text], "repeated_phrases")
    assert got.rstrip() == left
    assert metrics([text], "repeated_phrases")[0]["sentence_count"] == (text != left)


def test_repetition_thresholds_on_both_sides() -> None:
    three, four = "Well. no no no. Right.", "Well. no no no no. Right."
    assert edited([three, four], "repeated_phrases") == [three, "Well. Right."]
    half = "no no no no a b c d"
    assert edited([half, half + " e"], "repeated_phrases", covered_fraction_min=0.5) == ["", half + " e"]
    long = "a b c d e f g h " * 4
    assert edited([long.strip()], "repeated_phrases", phrase_tokens_max=8) == [""]
    assert edited([long.strip()], "repeated_phrases", phrase_tokens_max=7) == [long.strip()]


def test_a_document_with_too_many_such_sentences_goes() -> None:
    text = "Well. no no no no. Right."
    assert reasons([text], "repeated_phrases", sentence_count_max=0) == ["repeated_phrases.sentence_count_max"]
    assert reasons([text], "repeated_phrases", sentence_count_max=1) == [None]


def one_break(text: str) -> str:
    """The text with every line break written as a line feed."""
    return text.replace("\r\n", "\n").translate(dict.fromkeys(map(ord, NEWLINES), "\n"))


@pytest.mark.parametrize("stage", ["refinedweb_lines", "repeated_phrases"])
@given(texts=BATCH)
@settings(max_examples=150, deadline=None)
def test_edits_only_cut_and_every_byte_has_a_reason(stage: str, texts: list[str]) -> None:
    out = Tagger(config(stage)).tag(table(texts))
    for text, row in zip(texts, out.select(["text", "source_bytes", "text_bytes", stage]).to_pylist(), strict=True):
        rest = iter(one_break(text))
        assert all(c in rest for c in one_break(row["text"])), "what is left is a subsequence of the text"
        cuts = sum(v for k, v in row[stage].items() if k.startswith("cut_bytes_"))
        assert cuts == row["source_bytes"] - row["text_bytes"] >= 0


WORDS = [
    "Sign-in",
    "sign-in",
    "Read More...",
    "items in cart",
    "3",
    "1.2万",
    "5.2M",
    "likes",
    "赞",
    "阅读",
    "VIEWS",
    "no",
]
WORDS += [
    "spam",
    "buy now",
    "哈",
    "。",
    ".",
    "!",
    "“",
    "ไม่",
    "ดี",
    " ",
    "  ",
    "\n",
    "\r\n",
    "\u2028",
    "\u3000",
    "x",
    "ÀÉ",
    "|",
]
REPEATED = ["no", "buy now", "哈", "ไม่", "x.", "a b c", "…", "|", "\n"]
PHRASED = st.lists(st.sampled_from(WORDS), max_size=40).map("".join)
PHRASED |= st.lists(st.sampled_from(REPEATED), max_size=40).map(" ".join)
LINES = st.lists(PHRASED, max_size=4) | BATCH
MILLION = ["", "\n", "word", "word " * 1_000_000, "One two three. " * 333_333 + "\n", "\n" * 100_000]


@pytest.mark.parametrize("limit", [None, 0.5])
@given(texts=LINES)
@settings(max_examples=250, deadline=None)
def test_refinedweb_lines_agree_with_the_reference(limit: float | None, texts: list[str]) -> None:
    out = Tagger(config("refinedweb_lines", line_upper_fraction_max=limit)).tag(table(texts))
    expected = [reference.refinedweb_lines(text, RefinedWebLines(line_upper_fraction_max=limit)) for text in texts]
    assert out["text"].to_pylist() == [text for text, _ in expected]
    assert [row["cut_word_fraction"] for row in out["refinedweb_lines"].to_pylist()] == [cut for _, cut in expected]


@pytest.mark.parametrize(("longest", "repeats", "covered"), [(8, 4, 0.5), (2, 2, 0.0), (64, 3, 1.0)])
@given(texts=LINES)
@settings(max_examples=150, deadline=None)
def test_repeated_phrases_agree_with_the_reference(
    longest: int, repeats: int, covered: float, texts: list[str]
) -> None:
    values = {"phrase_tokens_max": longest, "repeats_min": repeats, "covered_fraction_min": covered}
    out = Tagger(config("repeated_phrases", **values)).tag(table(texts))
    expected = [reference.repeated_phrases(text, longest, repeats, covered) for text in texts]
    assert out["text"].to_pylist() == [text for text, _ in expected]
    assert [row["sentence_count"] for row in out["repeated_phrases"].to_pylist()] == [cut for _, cut in expected]


def test_line_editors_agree_with_the_reference_on_empty_and_on_very_long_documents() -> None:
    rules = RefinedWebLines()
    for text, row in zip(MILLION, edited(MILLION, "refinedweb_lines"), strict=True):
        assert row == reference.refinedweb_lines(text, rules)[0]
    assert edited(MILLION, "repeated_phrases") == ["", "\n", "word", "", MILLION[4], MILLION[5]]
    assert edited(MILLION, "c4", sentence_count_min=None) == ["", "", "", MILLION[3].strip(), MILLION[4].strip(), ""]
