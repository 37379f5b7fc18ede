"""Values of a record's fields: found by path, and as the text, numbers and truth values that documents carry."""

import math
from typing import Any

import orjson
import pyarrow as pa

from raypt.corpus.config import ColumnType, Range

ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
}
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")


class Unconverted(ValueError):
    """A value that is not of the type that a column is to have."""


def field_of(fields: dict[str, Any], path: str) -> Any:
    """The value at a dotted path; the whole path as one key comes first. KeyError if there is none."""
    if path in fields:
        return fields[path]
    value: Any = fields
    for step in path.split("."):
        if not isinstance(value, dict):
            raise KeyError(path)
        value = value[step]
    return value


def _json_default(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value, default=_json_default, option=orjson.OPT_NON_STR_KEYS).decode()
    except (orjson.JSONEncodeError, UnicodeError):  # integers of any size, lone surrogates
        return _plain_json(value)


def _plain_json(value: Any) -> str:
    """JSON of what orjson does not write."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_plain_json(str(k))}:{_plain_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_plain_json, value)) + "]"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        value = value.encode("utf-8", "replace").decode()
    return orjson.dumps(value, default=_json_default).decode()


def as_text(value: Any) -> str | None:
    """A value as text: strings as they are, numbers as written, times in ISO 8601, objects and lists as JSON; lone
    surrogates become `?`."""
    if value is None:
        return None
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int | float):
        text = str(value)
    elif isinstance(value, bytes):
        text = value.decode("utf-8", "backslashreplace")
    elif isinstance(value, dict | list | tuple):
        text = _json(value)
    else:
        text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def as_number(value: Any) -> float | None:
    """A number, or text that is one; else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def convert(value: Any, kind: ColumnType) -> Any:
    """A value as one of a column's type; null and empty text are null.

    Raises:
        Unconverted: it is none.
    """
    if kind == "string" or value is None:
        return as_text(value)
    if isinstance(value, str) and not value.strip():
        return None
    if kind == "bool":
        text = str(value).strip().lower()
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        raise Unconverted(value)
    if kind == "float":
        number = as_number(value)
        if number is None:
            raise Unconverted(value)
        return number
    if isinstance(value, str):
        try:
            value = int(value)
        except ValueError:
            value = as_number(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value != int(value):
        raise Unconverted(value)
    if not -(1 << 63) <= int(value) < 1 << 63:
        raise Unconverted(value)
    return int(value)


def fits(value: Any, condition: tuple[str, ...] | Range) -> bool:
    """Whether a value is one of those that `where` asks for."""
    if isinstance(condition, tuple):
        return as_text(value) in condition
    number = as_number(value)
    if number is None or math.isnan(number):
        return False
    low, high = condition.min, condition.max
    return (low is None or number >= low) and (high is None or number <= high)
