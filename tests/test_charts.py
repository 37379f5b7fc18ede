"""Charts are well-formed SVG, whatever the numbers and names."""

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.charts import (
    MOST_POINTS,
    NARROW,
    Series,
    Span,
    bar_chart,
    histogram,
    line_chart,
    number,
    span_chart,
    thinned,
    ticks,
)


def parsed(chart: str) -> ElementTree.Element:
    """A chart is one picture, or two for the widths of screens."""
    return ElementTree.fromstring("<page>" + chart.replace(" class=wide", "").replace(" class=narrow", "") + "</page>")


def test_a_chart_wider_than_a_phone_is_drawn_for_one_too() -> None:
    chart = bar_chart([("a rule with a long name of its own", 2.0, "2")], title="t", width=760)
    widths = [int(svg.get("width", "0")) for svg in parsed(chart).findall(".//{*}svg")]
    assert widths == [760, NARROW]
    assert all(float(e.get("font-size", "12")) >= 11 for e in parsed(chart).findall(".//{*}text"))
    assert chart.count("a rule with a long name of its own") == 2


def test_names_from_outside_are_escaped() -> None:
    chart = bar_chart([("<script>&'\"", 1.0, "<b>")], title="a < b")
    assert "<script>" not in chart
    parsed(chart)


def test_points_that_are_not_finite_are_left_out() -> None:
    chart = line_chart([Series("s", [1, 2, 3, 4], [1.0, math.nan, math.inf, 2.0])], title="t", x_label="x", y_label="y")
    assert "nan" not in chart
    assert len(parsed(chart).find(".//{*}polyline").get("points").split()) == 2


def test_a_level_within_the_range_is_drawn_and_named() -> None:
    chart = line_chart([Series("s", [0, 1], [0, 4])], title="t", x_label="", y_label="", levels=[("bound", 2.0)])
    assert "bound 2" in chart


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [5.0], [1e-9, 1e9, 3.0]])
def test_any_counts_make_a_histogram(values: list[float]) -> None:
    edges = [float(i) for i in range(len(values) + 1)]
    parsed(histogram(edges, values, title="t", x_label="x"))


def test_spans_lie_where_they_lasted_and_a_text_without_room_is_left_out() -> None:
    rows = [("a<b", [Span(0, 5, "m7", "#123456"), Span(5, 5.01, "m8", "#123456")]), ("idle", [])]
    chart = parsed(span_chart(rows, title="t", unit="s", until=10)).find(".//{*}svg")
    assert chart is not None
    background, first, *_ = chart.findall("{*}rect")
    assert float(first.get("width", "")) == pytest.approx(float(background.get("width", "")) / 2)
    texts = [t.text for t in chart.findall("{*}text")]
    assert "a<b" in texts and "m7" in texts and "m8" not in texts


def test_no_data_is_said() -> None:
    assert "no data" in span_chart([], title="t", unit="s")
    assert "no data" in line_chart([], title="t", x_label="", y_label="")
    assert "no data" in bar_chart([], title="t")


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 17), (0.001, 0.002), (0, 1e9)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 3 <= len(found) <= 12
    assert all(low - 1e-9 <= t <= high + 1e-9 * high for t in found)


@pytest.mark.parametrize(
    ("value", "text"), [(1234, "1,234"), (0.01234, "0.0123"), (5_600_000, "5.6M"), (math.nan, "–"), (0, "0")]
)
def test_figures_are_for_people(value: float, text: str) -> None:
    assert number(value) == text


def test_a_legend_that_does_not_fit_goes_on_below_and_never_over_the_axis_label() -> None:
    names = ["training", "held out", "a rather long name of a line", "another"]
    chart = line_chart(
        [Series(n, [0, 1], [0, i]) for i, n in enumerate(names)], title="t", x_label="tokens", y_label="y"
    )
    for svg in re.findall(r"<svg .*?</svg>", chart, re.DOTALL):
        width, height = (int(x) for x in re.search(r"viewBox='0 0 (\d+) (\d+)'", svg).groups())
        boxes = []
        for name in names:
            x, y = re.search(rf"<text x='(\d+)' y='(\d+)' fill='[^']*'>{name}<", svg).groups()
            boxes.append((int(y), int(x), int(x) + 7 * len(name)))
        y = re.search(r"<text x='\d+' y='(\d+)' text-anchor='end' fill='[^']*'>tokens<", svg)[1]
        boxes.append((int(y), width - 16 - 7 * len("tokens"), width - 16))
        assert all(y <= height and right <= width for y, _, right in boxes)
        for row in {y for y, _, _ in boxes}:
            inside = sorted((left, right) for y, left, right in boxes if y == row)
            assert all(a[1] <= b[0] for a, b in pairwise(inside))


def test_the_text_behind_the_longest_bar_has_room() -> None:
    behind = "99% of the bytes, 655 documents"
    for svg in re.findall(r"<svg .*?</svg>", bar_chart([("rule", 1.0, behind)], title="t"), re.DOTALL):
        width = int(re.search(r"viewBox='0 0 (\d+)", svg)[1])
        assert (
            float(re.search(rf"<text x='([\d.]+)' y='\d+' fill='[^']*'>{behind}", svg)[1]) + 6.5 * len(behind) < width
        )


def test_a_long_legend_takes_rows_and_does_not_run_out_of_the_picture() -> None:
    lines = [Series(f"a kind of question {i}", [0, 1], [0, i]) for i in range(8)]
    svg = line_chart(lines, title="t", x_label="tokens seen", y_label="y", width=344)
    found = re.findall(r"<text x='(\d+)' y='(\d+)' fill='[^']+'>a kind of question (\d)</text>", svg)
    assert len(found) == 8
    assert max(int(x) + 7 * len("a kind of question 0") for x, _, _ in found) <= 344
    assert len({(x, y) for x, y, _ in found}) == 8
    height = int(re.search(r"viewBox='0 0 344 (\d+)'", svg)[1])  # type: ignore[index]
    assert max(int(y) for _, y, _ in found) < height


def test_a_band_is_drawn_around_its_line_and_counts_for_the_scale() -> None:
    svg = line_chart(
        [Series("a", [0, 1], [1, 1], band=[(-3, 2), (0, 9)])], title="t", x_label="x", y_label="y", width=300
    )
    (points,) = re.findall(r"<polygon points='([^']+)'", svg)
    heights = [float(p.split(",")[1]) for p in points.split()]
    assert len(heights) == 4
    assert all(34 <= y <= 254 for y in heights)


@given(st.integers(1, 20 * MOST_POINTS), st.integers())
@settings(max_examples=25, deadline=None)
def test_a_long_line_keeps_its_spikes_and_has_no_more_points_than_can_be_seen(count: int, seed: int) -> None:
    values = np.random.default_rng(abs(seed)).normal(size=count).tolist()
    line = thinned(Series("a", range(len(values)), values))
    assert len(line.x) <= MOST_POINTS + 2
    assert (min(line.y), max(line.y)) == (min(values), max(values))
    assert list(line.x) == sorted(line.x)
