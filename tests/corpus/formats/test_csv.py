"""CSV and TSV: quotes, line feeds in fields, ragged and damaged records."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.corpus.formats.csv import read_csv
from raypt.corpus.records import Fault, Item, ReadRequest, Record


def items(path: Path, data: str | bytes, **options: Any) -> list[Item]:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return list(read_csv(ReadRequest(str(path), **options)))


def fields(found: list[Item]) -> list[dict[str, Any]]:
    assert all(isinstance(i, Record) for i in found), found
    return [i.fields for i in found if isinstance(i, Record)]


def test_quotes_and_line_feeds_inside_of_fields(tmp_path: Path) -> None:
    data = 'id,text\r\nd0,"He said ""no"", then\nyes."\r\nd1,plain\r\n'
    assert fields(items(tmp_path / "a.csv", data)) == [
        {"id": "d0", "text": 'He said "no", then\nyes.'},
        {"id": "d1", "text": "plain"},
    ]


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.csv", ";"), ("a.csv", "|"), ("a.tsv", "\t")])
def test_the_delimiter_is_that_of_the_header(tmp_path: Path, name: str, delimiter: str) -> None:
    data = "\n".join(delimiter.join(r) for r in (("id", "text", "n"), ("d0", "a b", "1"), ("d1", "c", "2")))
    assert fields(items(tmp_path / name, data)) == [
        {"id": "d0", "text": "a b", "n": "1"},
        {"id": "d1", "text": "c", "n": "2"},
    ]


ROWS = st.lists(st.tuples(*[st.text(alphabet='ab," ;\n河', max_size=8)] * 3), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_what_pythons_csv_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]]
) -> None:
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(("x", "y", "text"))
    writer.writerows(rows)
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    assert [tuple(f.values()) for f in fields(items(path, out.getvalue()))] == rows


def test_a_quote_that_is_never_closed_costs_its_own_line(tmp_path: Path) -> None:
    lines = ["id,text"] + [f"d{i},plain {i}" for i in range(100)]
    lines[11] = 'd10,"a quote is open'
    found = items(tmp_path / "a.csv", "\n".join(lines) + "\n")
    assert [(i.row, i.kind) for i in found if isinstance(i, Fault)] == [(10, "open_quote")]
    assert len([i for i in found if isinstance(i, Record)]) == 99


def test_many_open_quotes_take_no_quadratic_time_and_lose_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raypt.corpus.formats.csv.MAX_RESYNCS", 5)
    plain = ["d,plain"] * 9000  # more bytes than a record may have
    data = "\n".join(["id,text"] + (['d,"open', *plain]) * 10) + "\n"
    found = items(tmp_path / "a.csv", data, max_document_bytes=1000)
    faults = [i for i in found if isinstance(i, Fault)]
    assert [i.kind for i in faults] == ["open_quote"] * 10
    kept = len(found) - len(faults)
    assert kept >= 5 * 9000
    assert kept * len("d,plain\n") + sum(i.nbytes for i in faults) == len(data) - len("id,text\n")


def test_a_record_with_too_many_fields_is_a_fault_and_one_with_too_few_has_nulls(tmp_path: Path) -> None:
    found = items(tmp_path / "a.csv", "id,text,n\nd0,a\nd1,b,1,2,3\nd2,c,3\n")
    assert [i.fields if isinstance(i, Record) else i.kind for i in found] == [
        {"id": "d0", "text": "a", "n": None},
        "bad_record",
        {"id": "d2", "text": "c", "n": "3"},
    ]


def test_other_character_sets_and_broken_bytes(tmp_path: Path) -> None:
    assert fields(items(tmp_path / "a.csv", "id,text\n1,河水\n".encode("gb18030"), encoding="gb18030")) == [
        {"id": "1", "text": "河水"}
    ]
    found = items(tmp_path / "b.csv", b"id,text\n1,\xff\n2,good\n")
    assert [i.kind if isinstance(i, Fault) else i.fields["text"] for i in found] == ["invalid_utf8", "good"]


def test_an_empty_file_and_a_header_alone_have_no_records(tmp_path: Path) -> None:
    assert items(tmp_path / "a.csv", "") == []
    assert items(tmp_path / "b.csv", "id,text\n") == []
