"""JSON: an object a line, an array of objects, or objects one after another."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import orjson

from raypt.corpus.formats.json_values import one_a_line, split_values
from raypt.corpus.formats.lines import cut, decode, request_lines, split_lines, undecodable, untouched
from raypt.corpus.formats.raw import BrokenStream
from raypt.corpus.formats.stream import InputStream
from raypt.corpus.records import EXCERPT_BYTES, Fault, Item, ReadRequest, Record

MAX_INT_DIGITS = 4_000
"""Integers with more digits stay the text they are (Python turns up to 4,300 into a number)."""
EXACT = 2.0**63
"""orjson gives floats for integers from here on."""

_NESTED_OR_FLOAT = frozenset((float, dict, list))
_ESCAPE_BYTES = 6
"""An escape takes six bytes for as little as one of UTF-8: a longer record may still hold a text within the limit."""


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= MAX_INT_DIGITS else digits


_tolerant = json.JSONDecoder(parse_int=_integer, strict=False)


def parse_tolerant(text: str) -> Any:
    """JSON as Python's json writes it: NaN, Infinity, lone surrogates and integers of any size are read.

    Raises:
        ValueError: not JSON. RecursionError: nested too deep.
    """
    return _tolerant.decode(text.strip(" \t\r\n"))


def has_inexact(value: Any) -> bool:
    """Whether a value holds a float that may stand for an integer which orjson could not hold."""
    if isinstance(value, float):
        return not -EXACT < value < EXACT
    if isinstance(value, dict):
        return any(map(has_inexact, value.values()))
    return isinstance(value, list) and any(map(has_inexact, value))


def _encodable(fields: Any, path: str) -> bool:
    """Whether the text of a record holds no lone surrogate."""
    value = fields.get(path) if isinstance(fields, dict) else None
    if value is None:
        value = fields
        for step in path.split("."):
            value = value.get(step) if isinstance(value, dict) else None
    try:
        return not isinstance(value, str) or value.encode() is not None
    except UnicodeEncodeError:
        return False


def _used(value: Any, names: tuple[str, ...] | None) -> list[Any]:
    """The values that will be looked at, but for plain strings and the like."""
    if not isinstance(value, dict):
        return []
    return [v for n in (value if names is None else names) if (v := value.get(n)).__class__ in _NESTED_OR_FLOAT]


def _loads(data: bytes, encoding: str, text_field: str, names: tuple[str, ...] | None) -> Any:
    """The value of a piece of JSON, by the quick parser where that one reads it and reads it exactly.

    Raises:
        UnicodeDecodeError: not in this character set. ValueError: not JSON. RecursionError: nested too deep.
    """
    text = data if encoding == "utf-8" else decode(data, encoding)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as strict:
        value = parse_tolerant(decode(data, encoding))
        if not _encodable(value, text_field):
            raise ValueError(strict) from None
        return value
    return parse_tolerant(decode(data, encoding)) if has_inexact(_used(value, names)) else value


def json_item(
    row: int, offset: int, data: bytes, length: int, encoding: str, request: ReadRequest, names: tuple[str, ...] | None
) -> Item:
    """The record that a piece of JSON is, or why it is none. `names`: `request.names`, asked for once a file."""
    try:
        value = _loads(data, encoding, request.text_field, names)
    except UnicodeDecodeError as e:
        return undecodable(row, offset, data, length, e)
    except (ValueError, RecursionError, MemoryError) as e:
        reason = e if isinstance(e, ValueError) else "nested too deep"
        return Fault(row, "not_json", f"not JSON: {reason}", offset, data[:EXCERPT_BYTES], length)
    if isinstance(value, dict):
        return Record(row, value)
    message = f"a JSON {type(value).__name__}, not an object; one document is one {{...}}"
    return Fault(row, "not_object", message, offset, data[:EXCERPT_BYTES], length)


def read_jsonl(request: ReadRequest) -> Iterator[Item]:
    """Objects one a line; in a whole file also an array of them, or objects that take several lines."""
    limit = None if request.max_document_bytes is None else _ESCAPE_BYTES * request.max_document_bytes + 65536
    row, names = 0, request.names
    with InputStream(request) as stream:
        try:
            if request.start == 0 and request.stop is None:
                pieces = stream.pieces()
                first = next(pieces, b"")
                split = split_lines if one_a_line(first) else split_values
                records = split(itertools.chain([first], pieces), stream.skipped, None, limit)
            else:
                records = request_lines(request, stream, limit)
            for row, offset, data, length, whole in records:
                if row in request.skip:
                    yield untouched(row, offset, length)
                elif not whole:
                    message = f"the record has {length} bytes"
                    yield Fault(row, "too_long", message, offset, data[:EXCERPT_BYTES], length)
                else:
                    yield json_item(row, offset, data, length, stream.encoding, request, names)
                row += 1
        except BrokenStream as e:
            yield cut(row, e, None)
