"""A value as a person writes it: numbers with units, text that stays text."""

from typing import Annotated, Any, Literal

import pytest

from raypt.config_values import Slot, parse_number, read_scalar, unit_of


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("2k", None, 2000),
        ("1.5G", None, 1_500_000_000),
        ("4Ki", None, 4096),
        ("1e3", None, 1000),
        ("1_000", None, 1000),
        ("-3", None, -3),
        ("0123", None, 123),
        ("64MB", "bytes", 64_000_000),
        ("64 MiB", "bytes", 64 << 20),
        ("64M", "bytes", 64_000_000),
        ("12B", "bytes", 12),
        ("3d", "seconds", 259_200),
        ("5m", "seconds", 300),
        ("2000ms", "seconds", 2),
        # More digits than a float has.
        ("9007199254740993", None, 9007199254740993),
    ],
)
def test_a_number_with_its_unit_is_exact(text: str, unit: Any, value: int) -> None:
    assert parse_number(text, unit, whole=True) == value


@pytest.mark.parametrize(("text", "value"), [("0.1", 0.1), ("1e-5", 1e-5), (".5", 0.5), ("500ms", 0.5)])
def test_a_fraction_is_the_nearest_float(text: str, value: float) -> None:
    number = parse_number(text, "seconds", whole=False)
    assert number == value
    assert type(number) is float


@pytest.mark.parametrize(
    ("text", "unit", "said"),
    [
        ("64MB", None, "counts bytes, and this key does not"),
        ("3d", None, "is a time, and this key is not in seconds"),
        ("3d", "bytes", "is a time"),
        ("1.5", None, "is not a whole number"),
        ("0.3kB", "bytes", ""),
        ("1e999999999", None, "too large"),
    ],
)
def test_a_unit_that_the_key_does_not_have_is_refused(text: str, unit: Any, said: str) -> None:
    if not said:
        assert parse_number(text, unit, whole=True) == 300
        return
    with pytest.raises(ValueError, match=said):
        parse_number(text, unit, whole=True)


@pytest.mark.parametrize("text", ["much", "12:30", "0x10", "1.2.3", "k", "", "--1", "1 000"])
def test_what_is_no_number_is_left_to_the_schema(text: str) -> None:
    assert parse_number(text, None, whole=True) is None


def test_the_name_of_a_key_tells_its_unit() -> None:
    assert unit_of("max_document_bytes") == unit_of("bytes_min") == "bytes"
    assert unit_of("start_timeout_s") == "seconds"
    assert unit_of("steps") is None


@pytest.mark.parametrize("text", ["no", "yes", "001", "1e3", "null", "*", "a #b", "2024-01-01", "12:30", "0o17", "~"])
def test_text_stays_as_it_is_written(text: str) -> None:
    assert read_scalar(text, Slot(str)) == text


def test_null_is_nothing_where_that_may_be() -> None:
    assert read_scalar("null", Slot(str | None)) is None
    assert read_scalar("null", Slot(int | None)) is None
    assert read_scalar("null", Slot(str | None), quoted=True) == "null"
    assert read_scalar("null", Slot(int)) == "null"  # for the schema to refuse


def test_a_choice_of_numbers_and_a_union_take_numbers() -> None:
    assert read_scalar("3", Slot(Literal[0, 1, 2, 3])) == 3
    assert read_scalar("2k", Slot(int | tuple[int, int])) == 2000
    assert read_scalar("auto", Slot(float | Literal["auto"])) == "auto"
    assert read_scalar("1e-3", Slot(float | Literal["auto"])) == 0.001
    assert read_scalar("2k", Slot(Annotated[int, "positive"] | None)) == 2000


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("no", "no"), ("12", 12), ("1e-5", 1e-5), ("012:30", "012:30"), ("null", None)]
)
def test_where_anything_may_stand_the_core_schema_guesses(text: str, value: object) -> None:
    found = read_scalar(text, Slot(Any))
    assert found == value
    assert type(found) is type(value)
