"""The picture of a pipeline's step."""

import re
from xml.etree import ElementTree

import pytest

from raypt.charts import COLOURS, GRID
from raypt.parallel.pipeline.schedule import Name
from raypt.training.pipeline_page import pipeline_section
from tests.parallel.pipeline.test_record import SCHEDULES, recorded


@pytest.mark.parametrize(("name", "virtual"), SCHEDULES)
def test_every_action_is_in_both_pictures_with_its_micro_batch_on_idle_grey(name: Name, virtual: int) -> None:
    record = recorded(name, virtual)
    page = pipeline_section(12, record)
    assert "The pipeline in step 12" in page
    charts = [ElementTree.fromstring(svg) for svg in re.findall("<svg.*?</svg>", page)]
    assert len(charts) == 2
    kinds = 3 if name == "zero_bubble" else 2
    for chart in charts:
        actions = [r for r in chart.findall("{*}rect") if r.get("fill-opacity")]
        assert len(actions) == 4 * 8 * virtual * kinds
        assert {r.get("fill") for r in actions} == {COLOURS[0], COLOURS[2], COLOURS[3]} - (
            {COLOURS[3]} if kinds == 2 else set()
        )
        backs = [r for r in chart.findall("{*}rect") if r.get("fill") == GRID and not r.get("fill-opacity")][:-1]
        assert len(backs) == 4  # a row each, besides the legend's
        under = {(back.get("y"), back.get("x"), back.get("width")) for back in backs}
        assert len(under) == 4
        assert {r.get("y") for r in actions} == {y for y, _, _ in under}
        for back in backs:
            left, right = (float(back.attrib["x"]), float(back.attrib["x"]) + float(back.attrib["width"]))
            row = [r for r in actions if r.get("y") == back.get("y")]
            spans = [(float(r.attrib["x"]), float(r.attrib["x"]) + float(r.attrib["width"])) for r in row]
            assert left - 0.1 <= min(begin for begin, _ in spans)
            assert max(end for _, end in spans) <= right + 0.1
            assert sum(end - begin for begin, end in spans) < right - left, "what is idle shows"
        labels = [t.text for t in chart.findall("{*}text")]
        assert labels.count("worker 3") == 1
        assert labels.count("7") >= 4
    assert f"<td class=n>{' + '.join(['6'] * virtual)}</td>" in page
    assert f"idle for {record.idle_share:.1%} of the step" in page
    assert f"{record.idle_formula:.1%} by the formula" in page


def test_of_a_long_step_the_beginning_is_drawn() -> None:
    page = pipeline_section(1, recorded("1f1b", 1, devices=4, micro=1000))
    assert page.count("fill-opacity") == 2 * 4000
