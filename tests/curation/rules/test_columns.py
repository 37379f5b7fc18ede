"""Numbers that documents carry, bounded as a stage."""

from typing import Any

import pyarrow as pa
import pytest

from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.ledger import curation_ledger
from raypt.curation.tagger import Tagger
from raypt.errors import UserError
from tests.curation.helpers import table


def decided(columns: dict[str, Any], **carried: pa.Array) -> list[str | None]:
    n = len(next(iter(carried.values())))
    config = CurationConfig.model_validate({"stages": ("length",), "columns": columns})
    tagged = Tagger(config).tag(table(["text"] * n, **carried))
    reasons = decide(tagged, config)
    ledger = curation_ledger(tagged, reasons, config)
    assert ledger.stages["columns"].entered.documents == n
    return reasons.to_pylist()


@pytest.mark.parametrize("kind", [pa.float64(), pa.int32(), pa.string(), pa.float16()])
def test_a_bound_has_a_reason_of_its_own_whatever_the_type_of_the_column(kind: pa.DataType) -> None:
    scores = pa.array([2, 3, 4, None]).cast(kind)
    assert decided({"edu_score": {"min": 3}}, edu_score=scores) == ["columns.edu_score_min", None, None, None]
    assert decided({"edu_score": {"max": 3}}, edu_score=scores) == [None, None, "columns.edu_score_max", None]


def test_documents_without_a_value_go_if_asked() -> None:
    scores = pa.array([None, float("nan"), 1.0])
    columns = {"toxicity": {"max": 2, "missing": "drop"}}
    assert decided(columns, toxicity=scores) == ["columns.toxicity_missing", "columns.toxicity_missing", None]


def test_the_first_bound_that_fails_is_the_reason() -> None:
    columns = {"b": {"min": 1}, "a": {"min": 1}}
    assert decided(columns, a=pa.array([0, 0]), b=pa.array([0, 1])) == ["columns.b_min", "columns.a_min"]


def test_a_metric_of_another_stage_can_be_bounded() -> None:
    assert decided({"length.chars": {"max": 3}}, a=pa.array([0])) == ["columns.length.chars_max"]


def test_a_carried_column_keeps_its_type() -> None:
    config = CurationConfig.model_validate({"stages": (), "columns": {"edu_score": {"min": 3}}})
    tagged = Tagger(config).tag(table(["x"], edu_score=pa.array([3.5], pa.float32())))
    assert tagged.schema.field("edu_score").type == pa.float32()


def test_words_where_numbers_are_asked_for_are_named() -> None:
    with pytest.raises(UserError, match=r"curation\.columns\.a: the column holds 'high', which is no number"):
        decided({"a": {"min": 1}}, a=pa.array(["1", "high"]))
    with pytest.raises(UserError, match=r"curation\.columns\.a: the column holds list"):
        decided({"a": {"min": 1}}, a=pa.array([[1]]))


def test_the_stage_stands_where_it_is_named_and_else_first() -> None:
    for stages, expected in ((("length",), ["columns", "length"]), (("length", "columns"), ["length", "columns"])):
        config = CurationConfig.model_validate({"stages": stages, "columns": {"a": {"min": 1}}})
        assert [stage.name for stage in config.plan()] == expected
