"""WebDataset tars: samples, names of every kind, damage."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from raypt.corpus.formats.tar import read_tar
from raypt.corpus.records import Fault, Item, ReadRequest, Record, Skip

LAYOUTS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def packed(members: list[tuple[str, bytes]], layout: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=layout) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def samples(n: int) -> list[tuple[str, bytes]]:
    members = []
    for i in range(n):
        members += [(f"{i:06d}.json", json.dumps({"n": i}).encode()), (f"{i:06d}.txt", f"text {i} 河".encode())]
    return members


def read(path: Path, data: bytes, **options: Any) -> list[Item]:
    path.write_bytes(data)
    return list(read_tar(ReadRequest(str(path), **options)))


def texts(items: list[Item]) -> list[str]:
    return [i.fields["text"] for i in items if isinstance(i, Record) and "text" in i.fields]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_members_of_one_stem_are_one_sample(tmp_path: Path, layout: str, name: str) -> None:
    data = packed(samples(5), LAYOUTS[layout])
    items = read(tmp_path / name, gzip.compress(data) if name.endswith(".gz") else data)
    assert [i.fields for i in items if isinstance(i, Record)] == [
        {
            "id": f"{i:06d}",
            "n": i,
            "json": {"n": i},
            "txt": f"text {i} 河",
            "text": f"text {i} 河",
            "__key__": f"{i:06d}",
        }
        for i in range(5)
    ]


@pytest.mark.parametrize("layout", ["gnu", "pax"])
@pytest.mark.parametrize("name", ["d/" * 90 + "deep", "名" * 60, "a" * 250])
def test_long_and_foreign_names(tmp_path: Path, layout: str, name: str) -> None:
    [record] = read(tmp_path / "x.tar", packed([(f"{name}.txt", b"t")], LAYOUTS[layout]))
    assert isinstance(record, Record)
    assert record.fields["id"] == name


def test_names_that_climb_out_of_a_directory_are_only_names(tmp_path: Path) -> None:
    [record] = read(tmp_path / "x.tar", packed([("../../etc/passwd.txt", b"t")]))
    assert isinstance(record, Record)
    assert record.fields["id"] == "../../etc/passwd"


def test_a_sample_without_text_is_counted_and_pages_lose_their_markup(tmp_path: Path) -> None:
    page = b"<html><body><p>The river bends twice before the mill.</p></body></html>"
    items = read(
        tmp_path / "x.tar", packed([("a.jpg", b"\xff\xd8"), ("b.html", page), ("c.jpg", b""), ("c.txt", b"t")])
    )
    assert isinstance(items[0], Skip)
    assert (items[0].kind, items[0].nbytes) == ("no_text_member", 2)
    assert texts(items) == ["The river bends twice before the mill.", "t"]


def test_a_member_of_json_lines_is_a_record_a_line(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": f"t{i}"}) + "\n" for i in range(3)).encode()
    items = read(tmp_path / "x.tar", packed([("part/one.jsonl", lines + b"{broken\n"), ("z.txt", b"last")]))
    assert texts(items) == ["t0", "t1", "t2", "last"]
    assert [(i.row, i.kind) for i in items if isinstance(i, Fault)] == [(3, "not_json")]


@pytest.mark.parametrize("where", ["header", "contents", "before the end mark"])
def test_a_cut_archive_is_kept_up_to_the_cut_and_broken(tmp_path: Path, where: str) -> None:
    data = packed(samples(5))
    at = {"header": 1024 * 6 + 100, "contents": 1024 * 7 + 512 + 3, "before the end mark": 1024 * 10}[where]
    items = read(tmp_path / "x.tar", data[:at])
    got = texts(items)
    assert got[:3] == [f"text {i} 河" for i in range(3)]
    assert isinstance(items[-1], Fault)
    assert items[-1].kind == "broken_file"


def test_a_damaged_header_costs_its_member_and_what_follows_is_read(tmp_path: Path) -> None:
    data = bytearray(packed(samples(5)))
    data[1024 * 4 + 10] ^= 0x5A  # a byte of the name of 000002.json
    items = read(tmp_path / "x.tar", bytes(data))
    lost = [i for i in items if isinstance(i, Fault)]
    assert [(i.kind, i.nbytes) for i in lost] == [("bad_record", 1024)]
    assert texts(items) == [f"text {i} 河" for i in range(5)]


def test_members_that_say_more_than_they_have_do_not_fill_the_memory(tmp_path: Path) -> None:
    member = tarfile.TarInfo("a.txt")
    member.size = 1 << 40
    items = read(tmp_path / "x.tar", member.tobuf(tarfile.GNU_FORMAT) + b"short", max_document_bytes=1000)
    assert [i.kind for i in items if isinstance(i, Fault)][-1] == "broken_file"


def test_a_sample_of_many_text_members_is_bounded(tmp_path: Path) -> None:
    members = [("a.txt", b"x" * 60_000), ("a.md", b"x" * 60_000), ("b.txt", b"next")]
    items = read(tmp_path / "x.tar", packed(members), max_document_bytes=1000)
    assert [i.kind for i in items if isinstance(i, Fault)] == ["too_long"]
    assert texts(items) == ["next"]
