"""JSON as people write it."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.corpus.formats.json_values import one_a_line, split_values
from raypt.corpus.formats.jsonl import read_jsonl
from raypt.corpus.formats.lines import CutStream
from raypt.corpus.formats.raw import BrokenStream
from raypt.corpus.records import Fault, Item, ReadRequest, Record


def items(path: Path, data: bytes, **options: Any) -> list[Item]:
    path.write_bytes(data)
    return list(read_jsonl(ReadRequest(str(path), **options)))


def fields(found: list[Item]) -> list[dict[str, Any]]:
    assert all(isinstance(i, Record) for i in found), found
    return [i.fields for i in found if isinstance(i, Record)]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400, "9" * 5000, '"\\ud83d"'])
def test_a_value_that_the_quick_parser_refuses_does_not_cost_the_record(tmp_path: Path, value: str) -> None:
    [one] = fields(items(tmp_path / "a.jsonl", f'{{"text": "whole", "other": {value}}}\n'.encode()))
    assert one["text"] == "whole"


def test_a_text_with_a_lone_surrogate_is_a_fault(tmp_path: Path) -> None:
    [fault] = items(tmp_path / "a.jsonl", b'{"text": "cut \\ud83d"}\n')
    assert isinstance(fault, Fault)
    assert fault.kind == "not_json"


@pytest.mark.parametrize("digits", ["18446744073709551616", "-9223372036854775809", "3" * 39])
def test_big_integers_are_what_is_written_where_they_are_asked_for(tmp_path: Path, digits: str) -> None:
    data = f'{{"text": "t", "id": {digits}, "meta": {{"n": [{digits}]}}}}\n'.encode()
    [one] = fields(items(tmp_path / "a.jsonl", data, fields=("text", "id", "meta.n")))
    assert one["id"] == int(digits)
    assert one["meta"]["n"] == [int(digits)]


def test_real_floats_stay_floats(tmp_path: Path) -> None:
    [one] = fields(items(tmp_path / "a.jsonl", b'{"text": "t", "id": 1e300, "x": 0.5}\n'))
    assert (one["id"], one["x"]) == (1e300, 0.5)


def test_nesting_that_no_parser_follows_is_a_fault_of_that_record(tmp_path: Path) -> None:
    deep = b'{"text": ' + b"[" * 200_000 + b"]" * 200_000 + b"}\n"
    found = items(tmp_path / "a.jsonl", deep + b'{"text": "next"}\n')
    assert isinstance(found[0], Fault)
    assert found[0].kind == "not_json"
    assert found[0].nbytes == len(deep)
    assert isinstance(found[1], Record)


VALUES = [{"id": i, "text": 'a\\"]}{[ \n 河' * (i % 4), "n": {"x": [1, [2, {"y": "]"}]]}} for i in range(50)]
LAYOUTS = {
    "array": json.dumps(VALUES),
    "pretty array": json.dumps(VALUES, indent=1, ensure_ascii=False),
    "objects over several lines": "\n".join(json.dumps(v, indent=2) for v in VALUES),
    "objects without a line feed between": "".join(map(json.dumps, VALUES)),
    "lines": "\n".join(map(json.dumps, VALUES)),
    "array after a byte order mark": "\ufeff" + json.dumps(VALUES),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_every_layout_of_the_same_objects_reads_the_same(tmp_path: Path, layout: str, name: str) -> None:
    assert fields(items(tmp_path / name, LAYOUTS[layout].encode())) == VALUES


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("layout", [k for k in LAYOUTS if k != "array after a byte order mark"])
def test_where_a_piece_ends_does_not_matter(layout: str, size: int) -> None:
    data = LAYOUTS[layout].encode()
    found = list(split_values([data[i : i + size] for i in range(0, len(data), size)], 0, None, None))
    assert [orjson.loads(line[2]) for line in found] == VALUES
    assert [data[offset : offset + length] for _, offset, _, length, _ in found] == [line[2] for line in found]


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet='[]{}",:\\ \n1a', max_size=60), st.integers(1, 8))
def test_no_byte_of_any_text_is_left_out(text: str, size: int) -> None:
    data = text.encode()
    lengths = 0
    try:
        for _, offset, value, length, whole in split_values(
            [data[i : i + size] for i in range(0, len(data), size)], 0, None, None
        ):
            assert whole
            assert data[offset : offset + length] == value
            lengths += length
    except BrokenStream as e:
        lengths += e.length if isinstance(e, CutStream) else 0
    # What is in no value is white space, commas, and the brackets of top-level arrays.
    assert len(data) - lengths <= sum(data.count(c) for c in b" \n,[]")


def test_an_array_that_is_not_closed_is_a_broken_file(tmp_path: Path) -> None:
    data = json.dumps(VALUES).encode()
    found = items(tmp_path / "a.json", data[: len(data) // 2])
    assert isinstance(found[-1], Fault)
    assert found[-1].kind == "broken_file"
    kinds = [i.kind for i in found if isinstance(i, Fault)]
    assert kinds == ["not_json", "broken_file"]


def test_an_element_that_is_too_long_is_counted_and_the_next_is_read(tmp_path: Path) -> None:
    data = json.dumps([{"text": "x" * 300_000}, {"text": "next"}]).encode()
    found = items(tmp_path / "a.json", data, max_document_bytes=1000)
    assert isinstance(found[0], Fault)
    assert (found[0].kind, found[0].nbytes) == ("too_long", len(json.dumps({"text": "x" * 300_000})))
    assert isinstance(found[1], Record)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b'{"a": 1}\n{"a": 2}\n', True),
        (b'[{"a": 1},\n', False),
        (b"[\n", False),
        (b'["text"]\n["text"]\n', True),
        (b'{\n "a": 1}', False),
        (b'{"a": "cut in a str\n{"a": 2}\n', True),
        (b'{not json\n{"a": 2}\n', True),
        (b"", True),
        (b'{"a": 1}', True),
    ],
)
def test_a_damaged_first_line_does_not_change_how_a_file_is_read(start: bytes, expected: bool) -> None:
    assert one_a_line(start) == expected


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "gb18030", "utf-32"])
def test_json_lines_in_other_character_sets(tmp_path: Path, encoding: str) -> None:
    rows = [{"text": f"第 {i} 篇文档"} for i in range(20)]
    data = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode(encoding)
    assert fields(items(tmp_path / "a.jsonl", data, encoding=encoding)) == rows


def test_a_mark_of_utf_16_says_what_the_file_is_in(tmp_path: Path) -> None:
    assert fields(items(tmp_path / "a.jsonl", '{"text": "河"}\n'.encode("utf-16"))) == [{"text": "河"}]
