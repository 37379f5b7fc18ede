"""Values of fields as text, numbers and truth values."""

import datetime
import json
import math
from typing import Any

import pytest

from raypt.corpus.config import Range
from raypt.corpus.values import Unconverted, as_text, convert, field_of, fits


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        (7, "7"),
        (2**200, str(2**200)),
        (0.5, "0.5"),
        (True, "true"),
        (None, None),
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (datetime.datetime(2024, 2, 29, 12), "2024-02-29T12:00:00"),
        (b"\xe6\xb2\xb3\xff", "河\\xff"),
        ("cut \ud83d", "cut ?"),
    ],
)
def test_values_as_text(value: Any, expected: str | None) -> None:
    assert as_text(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        {"tags": ["a", "b's"], "score": 1.5, "checked": True, "note": None, "名": "河"},
        [1, [2, {"x": []}]],
        {"n": 2**100, "m": [-(2**70)]},
    ],
)
def test_nested_values_are_json(value: Any) -> None:
    assert json.loads(as_text(value) or "") == value


def test_json_of_what_json_cannot_hold() -> None:
    assert json.loads(as_text({"x": float("nan"), "d": datetime.date(2024, 1, 2), "s": "\ud800"}) or "") == {
        "x": None,
        "d": "2024-01-02",
        "s": "?",
    }


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (3, "int", 3),
        (3.0, "int", 3),
        ("3", "int", 3),
        (" 12 ", "int", 12),
        ("", "int", None),
        (2, "float", 2.0),
        ("2.5", "float", 2.5),
        (True, "bool", True),
        ("False", "bool", False),
        (0, "bool", False),
        (None, "float", None),
        (4, "string", "4"),
    ],
)
def test_values_of_a_type(value: Any, kind: Any, expected: Any) -> None:
    assert convert(value, kind) == expected
    assert type(convert(value, kind)) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (3.5, "int"),
        ("x", "int"),
        (2**63, "int"),
        (math.inf, "int"),
        ("x", "float"),
        ([], "float"),
        ("maybe", "bool"),
        (True, "int"),
    ],
)
def test_values_of_another_type_are_no_values(value: Any, kind: Any) -> None:
    with pytest.raises(Unconverted):
        convert(value, kind)


@pytest.mark.parametrize(
    ("value", "condition", "expected"),
    [
        ("news", ("news", "blog"), True),
        (3, ("3",), True),
        (True, ("true",), True),
        (None, ("news",), False),
        (3, Range(min=3), True),
        (2.9, Range(min=3), False),
        ("4.5", Range(min=3, max=5), True),
        (float("nan"), Range(min=0), False),
        ("high", Range(min=0), False),
    ],
)
def test_conditions(value: Any, condition: Any, expected: bool) -> None:
    assert fits(value, condition) == expected


def test_the_whole_path_as_one_key_comes_first() -> None:
    assert field_of({"a.b": 1, "a": {"b": 2}}, "a.b") == 1
    assert field_of({"a": {"b-c": {"d": 3}}}, "a.b-c.d") == 3
    with pytest.raises(KeyError):
        field_of({"a": "text"}, "a.b")
