"""Lines, text files, pages and source code: what belongs to the text and what does not."""

import bz2
import gzip
from pathlib import Path
from typing import Any

import pytest

from raypt.corpus.formats.code import read_code
from raypt.corpus.formats.lines import read_line_documents
from raypt.corpus.formats.page import read_html_file
from raypt.corpus.formats.table import Reader
from raypt.corpus.formats.text import read_text_file
from raypt.corpus.records import Fault, Item, ReadRequest, Record


def read(reader: Reader, path: Path, data: bytes, **options: Any) -> list[Item]:
    path.write_bytes(data)
    return list(reader(ReadRequest(str(path), size=len(data), **options)))


def texts(items: list[Item]) -> list[str]:
    return [i.fields["text"] for i in items if isinstance(i, Record)]


def test_lines_keep_their_indentation_and_lose_mark_and_carriage_return(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbfone\r\n    two  \r\n\r\n \t \n\tthree"
    assert texts(read(read_line_documents, tmp_path / "a.txt", data)) == ["one", "    two  ", "\tthree"]


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
@pytest.mark.parametrize("length", [99, 100, 101, 102, 5000])
def test_a_line_is_whole_or_a_fault_and_never_cut(tmp_path: Path, length: int, ending: str) -> None:
    data = ("x" * length + ending).encode() + b"\nnext" * bool(ending)
    items = read(read_line_documents, tmp_path / "a.txt", data, max_document_bytes=100)
    if length <= 100:
        assert texts(items)[0] == "x" * length
    else:
        assert isinstance(items[0], Fault)
        assert (items[0].kind, items[0].nbytes) == ("too_long", length + len(ending))
    assert texts(items)[-1:] == (["next"] if ending else texts(items)[-1:])


@pytest.mark.parametrize("start", [0, 1, 5, 6, 7, 11, 12])
def test_a_piece_has_the_lines_that_begin_in_it(tmp_path: Path, start: int) -> None:
    data = b"first\nsecond\n\nthird\n"
    begins = {0: "first", 6: "second", 14: "third"}
    items = read(read_line_documents, tmp_path / "a.txt", data, start=start, stop=13)
    assert texts(items) == [text for at, text in begins.items() if start <= at < 13]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("gb18030", "河水转了两个弯𠀀"),
        ("gb2312", "老木匠王喆"),
        ("big5", "河水轉了兩個彎"),
        ("shift_jis", "①髙橋さん"),
        ("euc-kr", "똠양꿍"),
        ("utf-16", "naïve 河"),
        ("windows-1252", "“naïve” – 4 €"),
        ("koi8-r", "река"),
    ],
)
@pytest.mark.parametrize("reader", [read_text_file, read_line_documents, read_code])
def test_text_in_other_character_sets(tmp_path: Path, reader: Reader, encoding: str, text: str) -> None:
    from raypt.corpus.config import SourceConfig

    declared = SourceConfig(paths=("x",), encoding=encoding).encoding
    wider = {"gb2312": "gb18030", "shift_jis": "cp932", "euc-kr": "cp949"}.get(encoding, encoding)
    assert texts(read(reader, tmp_path / "a.txt", text.encode(wider), encoding=declared)) == [text]


def test_a_byte_order_mark_of_utf_16_needs_no_key(tmp_path: Path) -> None:
    for encoding in ("utf-16-le", "utf-16-be"):
        data = "\ufeff河\nwater".encode(encoding)
        assert texts(read(read_text_file, tmp_path / "a.txt", data)) == ["河\nwater"]
        assert texts(read(read_line_documents, tmp_path / "b.txt", data)) == ["河", "water"]


def test_bytes_of_another_character_set_are_one_fault_with_their_place(tmp_path: Path) -> None:
    [fault] = read(read_text_file, tmp_path / "a.txt", "naïve".encode("latin-1"))
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.offset, fault.nbytes) == ("invalid_utf8", 2, 5)


def test_a_compressed_file_is_known_by_its_bytes_where_its_name_is_wrong(tmp_path: Path) -> None:
    assert texts(read(read_text_file, tmp_path / "a.txt", gzip.compress(b"packed"))) == ["packed"]
    assert texts(read(read_text_file, tmp_path / "b.txt.gz", bz2.compress(b"packed"))) == ["packed"]
    assert texts(read(read_text_file, tmp_path / "c.html.gz", b"<p>a server undid it</p>")) == [
        "<p>a server undid it</p>"
    ]


PAGE = "<!DOCTYPE html><html><head>{}</head><body><p>{}</p></body></html>"


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16", "windows-1251"])
def test_a_page_loses_its_markup_whatever_its_character_set(tmp_path: Path, encoding: str) -> None:
    text = "Утром на реке стоит туман." if encoding == "windows-1251" else "河上有一座老桥，每天早上人们从桥上走过。"
    meta = "" if encoding == "utf-16" else f'<meta charset="{encoding}">'
    declared = None if encoding in ("utf-8", "utf-16") else encoding
    [got] = texts(
        read(read_html_file, tmp_path / "a.html", PAGE.format(meta, text).encode(encoding), encoding=declared)
    )
    assert got.strip() == text


@pytest.mark.parametrize(
    ("name", "language"), [("a.py", "Python"), ("b.rs.gz", "Rust"), ("Makefile", "Makefile"), ("c.h", "C")]
)
def test_source_code_has_its_language(tmp_path: Path, name: str, language: str) -> None:
    data = b"x = 1\n"
    [item] = read(read_code, tmp_path / name, gzip.compress(data) if name.endswith(".gz") else data)
    assert isinstance(item, Record)
    assert (item.fields["text"], item.fields["language"], item.fields["id"]) == ("x = 1\n", language, name)


@pytest.mark.parametrize("reader", [read_text_file, read_html_file, read_code, read_line_documents])
def test_a_row_that_killed_its_reader_is_not_touched(tmp_path: Path, reader: Reader) -> None:
    [fault] = read(reader, tmp_path / "a.txt", b"deadly", skip=frozenset([0]))
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.nbytes) == ("killed_reader", 6)


def test_a_file_over_the_limit_is_counted_whole_and_not_held(tmp_path: Path) -> None:
    [fault] = read(read_text_file, tmp_path / "a.txt", b"x" * 3_000_000, max_document_bytes=1000)
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.nbytes, len(fault.raw)) == ("too_long", 3_000_000, 2000)
