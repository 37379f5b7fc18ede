"""DCLM's reading of Gopher's rules: metrics against the plain definitions, and each threshold on both sides."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.curation.rules.dclm_quality import DclmQuality
from tests.curation import reference
from tests.curation.helpers import metrics, reasons
from tests.curation.readings import dclm
from tests.curation.strategies import BATCH

# Text whose lines end with a line feed alone, and whose words both sides part alike.
PLAIN = st.lists(
    st.sampled_from(
        ["the", "The", "OF", "cat", "be", "a-b", "(see", "it's", "...", "…", ". . .", "#", "1", "3.14", "•", "*", "- x",
         "●", "\n", "\n\n", "\n\n\n", " ", "the cat", "Ünïcode", "— dash"]
    ),
    max_size=80,
).map(" ".join)  # fmt: skip


@given(st.lists(PLAIN, min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_quality_metrics_are_dclms(texts: list[str]) -> None:
    assert metrics(texts, "dclm_quality") == [dclm.measure(text) for text in texts]


@given(st.lists(PLAIN, min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_repetition_metrics_are_dclms(texts: list[str]) -> None:
    for text, found in zip(texts, metrics(texts, "dclm_repetition"), strict=True):
        for name, separator in (("line", "\n"), ("paragraph", "\n\n")):
            expected = dclm.segment_repetition(text, separator) if text.strip() else None
            shares = found[f"repeated_{name}_fraction"], found[f"repeated_{name}_char_fraction"]
            if name == "line" or "\n \n" not in text:  # an empty line has no blank in it
                assert shares == (expected or (0.0, 0.0))
        words = [word for word in reference.tokens(text) if word[0].isalnum()]
        for n in range(2, 11):
            kind = "top" if n <= 4 else "repeated"
            assert found[f"{kind}_{n}_gram_char_fraction"] == dclm.gram_repetition(words, n)


@given(BATCH)
@settings(max_examples=100, deadline=None)
def test_any_text_is_measured(texts: list[str]) -> None:
    for stage in ("dclm_quality", "dclm_repetition"):
        for row in metrics(texts, stage):
            assert all(value is None or value >= 0 for value in row.values())
            # A top n-gram may overlap itself.
            shares = [v for name, v in row.items() if name.endswith("fraction") and not name.startswith("top")]
            assert all(value is None or value <= 1 for value in shares)


GOOD = "the cats of the town " * 12


@pytest.mark.parametrize(
    ("rule", "passes", "fails"),
    [
        ("word_count_min", "the cats " * 25, "the cats " * 24 + "the ..."),
        ("mean_word_length_min", "the to be " * 10 + "dogs and " * 20, "to be of " * 40),
        ("symbol_to_word_ratio_max", GOOD + "# # ... ", GOOD + "# . . . ... " * 4),
        (
            "bullet_line_fraction_max",
            "* cats of the town\n" * 17 + "cats of the town\n" * 2,
            "* cats of the town\n" * 19,
        ),
        (
            "ellipsis_line_fraction_max",
            ("cats of the town…\n" + "the cats\n" * 3) * 10,
            "the cats of the town. . .\n" * 13,
        ),
        ("alpha_word_fraction_min", "the cats of town 1 " * 12, "the cats of 22 333 " * 13),
        ("stop_word_count_min", "cats The " + "cats dogs " * 30 + "THE", "cats the " + "cats dogs " * 30),
    ],
)
def test_each_threshold_on_both_sides(rule: str, passes: str, fails: str) -> None:
    others = dict.fromkeys(key for key in DclmQuality.model_fields if key.endswith(("_min", "_max")) and key != rule)
    assert reasons([passes, fails], "dclm_quality", **others) == [None, f"dclm_quality.{rule}"]


def test_the_first_of_repeated_lines_counts_too() -> None:
    lines = [f"line number {i} of the text" for i in range(8)]
    (found,) = metrics(["\n".join([*lines, lines[0], lines[0]])], "dclm_repetition")
    assert found["repeated_line_fraction"] == 0.3
    (found,) = metrics(["\n".join([*lines, lines[0], lines[0]])], "gopher_repetition")
    assert found["duplicate_line_fraction"] == 0.2


def test_chinese_prose_passes() -> None:
    text = (
        "我们的城市在河边，这里的人都喜欢在傍晚散步和聊天。图书馆里有上万本书，老师说学生应该多读书，也要多写字。" * 2
    )
    assert reasons([text], "dclm_quality", "zh") == [None]
