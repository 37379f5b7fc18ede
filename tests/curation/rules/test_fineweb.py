"""FineWeb custom: metrics against the plain definitions, and each threshold on both sides."""

import pytest
from hypothesis import given, settings

from raypt.text import unicode as u
from tests.curation import reference
from tests.curation.helpers import metrics, reasons
from tests.curation.strategies import BATCH


def ended(line: str) -> bool:
    line = line.strip()
    bare = line[:-1] if reference.has(line[-1], u.QUOTE) else line
    no_stops = reference.ends_well(line) and not reference.has(line[-1], u.TERMINAL | u.QUOTE)
    return (bool(bare) and reference.has(bare[-1], u.TERMINAL)) or reference.has(line[-1], u.TERMINAL) or no_stops


def width(line: str) -> int:
    return len(line) + sum(any(reference.has(c, u.UNSPACED) for c in t) for t in reference.tokens(line))


def expected(text: str) -> dict[str, float]:
    lines = [x for x in text.splitlines() if x.strip()]
    breaks = len((text + "x").splitlines()) - 1
    n = max(len(lines), 1)
    return {
        "ended_line_fraction": sum(map(ended, lines)) / n,
        "short_line_fraction": sum(width(x) <= 30 for x in lines) / n,
        "duplicate_line_char_fraction": reference.duplicates(lines)[1] / max(len(text) - breaks, 1),
        "newline_to_word_ratio": breaks / len(reference.tokens(text)) if reference.tokens(text) else 0.0,
    }


@given(BATCH)
@settings(max_examples=200, deadline=None)
def test_metrics_agree_with_the_reference(texts: list[str]) -> None:
    assert metrics(texts, "fineweb") == [expected(text) for text in texts]


LONG = "the quick brown fox jumps over the dog"


@pytest.mark.parametrize(
    ("rule", "passes", "fails"),
    [
        ("ended_line_fraction_min", [f"{LONG} {i}." for i in range(3)] + [f"{LONG} {i}" for i in range(3, 25)],
         [f"{LONG} {i}." for i in range(2)] + [f"{LONG} {i}" for i in range(2, 25)]),
        ("short_line_fraction_max", ["word " * 5 + f"{i:04}." for i in range(67)] + [f"{LONG} {i}." for i in range(33)],
         ["word " * 5 + f"{i:04}." for i in range(68)] + [f"{LONG} {i}." for i in range(32)]),
        ("duplicate_line_char_fraction_max", [f"{LONG} {i:02}." for i in range(98)] + ["x" * 41 + "."] +
         [f"{LONG} 00."], [f"{LONG} {i:02}." for i in range(98)] + ["x" * 40 + "."] + [f"{LONG} 00."]),
        ("newline_to_word_ratio_max", ["abc"] * 3 + ["abc def ghi jkl mno pqr."],
         ["abc"] * 3 + ["abc def ghi jkl mno."]),
    ],
)  # fmt: skip
def test_each_threshold_on_both_sides(rule: str, passes: list[str], fails: list[str]) -> None:
    off = dict.fromkeys(
        ("ended_line_fraction_min", "short_line_fraction_max", "duplicate_line_char_fraction_max",
         "newline_to_word_ratio_max")
    )  # fmt: skip
    values = {k: v for k, v in off.items() if k != rule}
    assert reasons(["\n".join(passes), "\n".join(fails)], "fineweb", **values) == [None, f"fineweb.{rule}"]


def test_chinese_and_thai_lines_are_ended() -> None:
    got = metrics(["他说：“好。”\n我们走吧！\n为什么？", "ฉันชอบแมวมาก"], "fineweb", "zh")
    assert [row["ended_line_fraction"] for row in got] == [1.0, 1.0]
