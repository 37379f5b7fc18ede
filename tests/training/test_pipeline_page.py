"""The picture of a pipeline's step."""

import re
from xml.etree import ElementTree

import pytest

from raypt.charts import COLOURS
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
        labels = [t.text for t in chart.findall("{*}text")]
        assert labels.count("worker 3") == 1
        assert labels.count("7") >= 4
    assert f"<td class=n>{' + '.join(['6'] * virtual)}</td>" in page
    assert f"idle for {record.idle_share:.1%} of the step" in page
    assert f"{record.idle_formula:.1%} by the formula" in page


def test_of_a_long_step_the_beginning_is_drawn() -> None:
    page = pipeline_section(1, recorded("1f1b", 1, devices=4, micro=1000))
    assert page.count("fill-opacity") == 2 * 4000
