"""Archives that are cut, lie about lengths, or are damaged: every byte is a record's or counted as unread."""

import bz2
import gzip
import lzma
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from raypt.corpus.records import BROKEN_FILE
from raypt.corpus.warc.framing import BAD_RECORD, ArchiveRecord, Unread, records
from raypt.corpus.warc.pieces import Piece
from tests.corpus.warc.archives import faults, gz, read, record, response, skips, text_of, texts, wet

COUNT = 24
HOLD = 1 << 20


def pieces(data: bytes, size: int = 700) -> Iterator[Piece]:
    for at in range(0, len(data), size):
        yield Piece(data[at : at + size], min(len(data), at + size))


def outcomes(data: bytes, size: int = 700, hold: int = HOLD) -> list[ArchiveRecord | Unread]:
    return list(records(pieces(data, size), True, hold))


def is_accounted_for(data: bytes, found: list[ArchiveRecord | Unread]) -> bool:
    """Whether each byte lies in one record, in one unread stretch, or in line ends between them."""
    at = 0
    for item in found:
        if data[at : item.position].strip(b"\r\n\0"):
            return False
        if isinstance(item, Unread):
            end = item.position + item.nbytes
        else:
            head = re.compile(rb"\r?\n\r?\n").search(data, item.position)
            assert head is not None
            end = head.end() + item.length
        if item.position < at or end > len(data):
            return False
        at = end
    return not data[at:].strip(b"\r\n\0")


def test_records_come_in_order_with_their_headers_and_blocks() -> None:
    data = b"".join(wet(n) for n in range(COUNT))
    found = outcomes(data)
    assert [r.block.decode() for r in found if isinstance(r, ArchiveRecord)] == [text_of(n) for n in range(COUNT)]
    assert all(r.headers["warc-type"] == "conversion" and r.ended for r in found if isinstance(r, ArchiveRecord))
    assert is_accounted_for(data, found)


@pytest.mark.parametrize("size", [1, 2, 3, 61, 1 << 16])
def test_how_the_bytes_arrive_does_not_matter(size: int) -> None:
    data = b"".join([*(wet(n) for n in range(5)), wet(5, length=3), b"rubbish", *(wet(n) for n in range(6, 9))])
    assert outcomes(data, size) == outcomes(data, 1 << 20)


def test_of_500_cuts_every_one_within_a_record_is_a_fault_with_the_bytes_that_are_lost() -> None:
    whole = [
        wet(n) if n % 3 else response(n, b"<p>" + text_of(n).encode(), "Content-Type: text/html") for n in range(COUNT)
    ]
    data = b"".join(whole)
    ends, at = [], 0
    for r in whole:
        at += len(r)
        ends.append(at)
    for cut in random.Random(0).sample(range(1, len(data)), 500):
        found = outcomes(data[:cut])
        before = [end for end in ends if end <= cut]
        # The line ends behind a block are not the block's: a cut in them loses nothing, but is noticed.
        in_line_ends = any(end - 4 <= cut < end for end in ends)
        good = [r for r in found if isinstance(r, ArchiveRecord)]
        bad = [r for r in found if isinstance(r, Unread)]
        assert len(good) == len(before) + in_line_ends, cut
        assert is_accounted_for(data[:cut], found), cut
        if cut in ends:
            assert not bad, cut
        else:
            assert [b.kind for b in bad] == [BROKEN_FILE], cut
            assert bad[0].nbytes == (0 if in_line_ends else cut - (before[-1] if before else 0)), cut


@pytest.mark.parametrize("name", ["x.warc.gz", "x.warc.zst"])
def test_of_500_cuts_of_a_compressed_archive_every_one_within_a_member_is_a_fault(tmp_path: Path, name: str) -> None:
    whole = [wet(n) for n in range(COUNT)]
    compressed = [gz([r]) if name.endswith("gz") else zstandard.compress(r) for r in whole]
    data = b"".join(compressed)
    ends = [sum(map(len, compressed[: n + 1])) for n in range(COUNT)]
    for cut in random.Random(1).sample(range(1, len(data)), 500):
        items = read(tmp_path, data[:cut], name)
        before = [end for end in ends if end <= cut]
        # What stands before the cut can be all of a record but its checksum.
        assert texts(items)[: len(before)] == [text_of(n) for n in range(len(before))], cut
        assert len(texts(items)) <= len(before) + 1, cut
        bad = faults(items)
        if cut in ends:
            assert not bad, cut
        else:
            assert [b.kind for b in bad] == [BROKEN_FILE], cut
            lost = cut - (before[-1] if before else 0)
            assert bad[0].nbytes == (lost if len(texts(items)) == len(before) else pytest.approx(0, abs=lost)), cut


@pytest.mark.parametrize("wrong", [-1, -40, 5, 200, 5_000, 10**6, 10**9, 10**14])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_wrong_content_length_costs_its_own_record_only(tmp_path: Path, wrong: int, compressed: bool) -> None:
    parts = [wet(n) for n in range(COUNT)]
    at = 7
    parts[at] = wet(at, length=len(text_of(at).encode()) + wrong)
    data = gz(parts) if compressed else b"".join(parts)
    items = read(tmp_path, data, "x.warc.gz" if compressed else "x.warc")
    assert texts(items) == [text_of(n) for n in range(COUNT) if n != at]
    [fault] = faults(items)
    assert fault.kind == BAD_RECORD
    assert "Content-Length" in fault.message
    assert fault.nbytes == len(parts[at])


@pytest.mark.parametrize("wrong", [1, 2, 3, 4])
def test_a_length_that_counts_line_ends_behind_the_block_costs_nothing(tmp_path: Path, wrong: int) -> None:
    parts = [wet(n, length=len(text_of(n).encode()) + wrong * (n == 2)) for n in range(5)]
    items = read(tmp_path, b"".join(parts))
    assert [t.rstrip() for t in texts(items)] == [text_of(n) for n in range(5)]
    assert not faults(items)


@pytest.mark.parametrize("wrong", [-1, 5, 300, 10**12, 10**14])
def test_a_wrong_content_length_of_the_last_record_is_a_fault_too(tmp_path: Path, wrong: int) -> None:
    last = wet(3, length=len(text_of(3).encode()) + wrong)
    items = read(tmp_path, b"".join(wet(n) for n in range(3)) + last)
    assert texts(items) == [text_of(n) for n in range(3)]
    [fault] = faults(items)
    assert fault.nbytes in (len(last), len(last) - 4)


@pytest.mark.parametrize("header", ["Content-Length: many", "Content-Length: -1", "Content-Length: ", "X: y"])
def test_a_record_without_a_length_costs_itself_only(tmp_path: Path, header: str) -> None:
    broken = re.sub(rb"Content-Length: \d+", header.encode(), wet(1))
    items = read(tmp_path, wet(0) + broken + wet(2))
    assert texts(items) == [text_of(0), text_of(2)]
    assert [(f.kind, f.nbytes) for f in faults(items)] == [(BAD_RECORD, len(broken))]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("compressed", [False, True])
def test_line_feeds_alone_end_lines_too(tmp_path: Path, newline: str, compressed: bool) -> None:
    page = ("<html><body><p>" + text_of(9) + "</body></html>").encode()
    parts = [
        *(wet(n, newline=newline) for n in range(4)),
        response(9, page, "Content-Type: text/html", newline=newline),
    ]
    items = read(tmp_path, gz(parts) if compressed else b"".join(parts), "x.warc.gz" if compressed else "x.warc")
    assert texts(items) == [*map(text_of, range(4)), text_of(9)]
    assert not faults(items)


def test_line_ends_between_records_may_be_missing_or_many(tmp_path: Path) -> None:
    one, two, three = (wet(n) for n in range(3))
    data = b"\r\n" + one + b"\r\n\r\n\n" + two.rstrip(b"\r\n") + three
    items = read(tmp_path, data)
    assert texts(items) == [text_of(n) for n in range(3)]
    assert not faults(items)


def test_a_record_that_holds_an_archive_is_one_record(tmp_path: Path) -> None:
    inner = b"".join(wet(n) for n in range(5))
    items = read(tmp_path, wet(0) + record("resource", 1, inner, "text/plain") + wet(2))
    assert texts(items) == [text_of(0), inner.decode(), text_of(2)]
    assert not faults(items)


def test_rubbish_between_records_is_counted(tmp_path: Path) -> None:
    rubbish = b"not a record at all \xff\xfe\n" * 500
    items = read(tmp_path, rubbish + wet(0) + rubbish + wet(1) + rubbish)
    assert texts(items) == [text_of(0), text_of(1)]
    assert [(f.kind, f.nbytes) for f in faults(items)] == [
        (BAD_RECORD, len(rubbish)),
        (BAD_RECORD, len(rubbish)),
        (BROKEN_FILE, len(rubbish)),
    ]


def test_a_file_that_is_no_archive_is_a_broken_file(tmp_path: Path) -> None:
    items = read(tmp_path, b"<html>not found</html>" * 100)
    assert not texts(items)
    assert [(f.kind, f.nbytes) for f in faults(items)] == [(BROKEN_FILE, 2_200)]


def test_a_flipped_bit_costs_the_record_that_it_is_in_and_no_other() -> None:
    whole = [wet(n) for n in range(COUNT)]
    starts = [sum(map(len, whole[:n])) for n in range(COUNT)]
    data = b"".join(whole)
    source = random.Random(2)
    for _ in range(400):
        at = source.randrange(len(data))
        hit = max(n for n in range(COUNT) if starts[n] <= at)
        damaged = data[:at] + bytes([data[at] ^ (1 << source.randrange(8))]) + data[at + 1 :]
        found = outcomes(damaged)
        assert is_accounted_for(damaged, found), at
        got = {r.block.decode(errors="replace") for r in found if isinstance(r, ArchiveRecord)}
        missing = [n for n in range(COUNT) if text_of(n) not in got]
        # Without the line end before it a record's first line is no line.
        assert missing in ([], [hit], *([[hit, hit + 1]] if starts[hit] + len(whole[hit]) - at <= 4 else [])), at


def test_a_damaged_gzip_member_costs_itself_only(tmp_path: Path) -> None:
    members = [gz([wet(n)]) for n in range(COUNT)]
    middle = len(members[9]) // 2
    members[9] = (
        members[9][:middle] + bytes(b ^ 0xFF for b in members[9][middle : middle + 9]) + members[9][middle + 9 :]
    )
    items = read(tmp_path, b"".join(members), "x.warc.gz")
    assert texts(items) == [text_of(n) for n in range(COUNT) if n != 9]
    assert [f.kind for f in faults(items)] == [BAD_RECORD]
    assert faults(items)[0].nbytes == len(members[9])


def test_a_block_longer_than_what_is_held_is_passed_over_without_being_held(tmp_path: Path) -> None:
    long = record("conversion", 1, b"x" * 6_000_000, "text/plain")
    found = outcomes(wet(0) + long + wet(2), 1 << 16, hold=100_000)
    lengths = [(r.length, len(r.block)) for r in found if isinstance(r, ArchiveRecord)]
    assert lengths[1] == (6_000_000, 1 << 16)
    assert not [r for r in found if isinstance(r, Unread)]
    items = read(tmp_path, wet(0) + long + wet(2), max_document_bytes=1_000)
    assert [f.kind for f in faults(items)] == ["too_long"]
    assert texts(items) == [text_of(0), text_of(2)]


def test_records_of_other_kinds_are_counted_by_a_closed_list_of_kinds(tmp_path: Path) -> None:
    kinds = ["warcinfo", "request", "metadata", "revisit", "continuation", "x\x1b[2J", "e" * 500, "Evil\nreason"]
    data = b"".join(record(kind, n, b"x", "text/plain") for n, kind in enumerate(kinds))
    items = read(tmp_path, wet(0) + data + wet(1))
    assert texts(items) == [text_of(0), text_of(1)]
    assert set(skips(items)) == {
        *(f"warc_{k}" for k in ("warcinfo", "request", "metadata", "revisit", "continuation", "unknown_record"))
    }


def test_arc_files_are_read(tmp_path: Path) -> None:
    def arc(url: str, body: bytes, kind: str = "text/html") -> bytes:
        return f"{url} 10.0.0.1 20080430204825 {kind} {len(body)}\n".encode() + body + b"\n"

    version = b"1 0 Internet Archive\nURL IP-address Archive-date Content-type Archive-length\n"
    http = b"HTTP/1.1 200 OK\nContent-Type: text/html\n\n<html><body><p>%s</p></body></html>"
    data = arc("filedesc://x.arc", version, "text/plain") + b"".join(
        arc(f"http://example.org/{n}", http % text_of(n).encode()) for n in range(3)
    )
    for name, stored in (("x.arc", data), ("x.arc.gz", gz([data]))):
        items = read(tmp_path, stored, name)
        assert texts(items) == [text_of(n) for n in range(3)]
        assert not faults(items)
        assert skips(items) == ["warc_warcinfo"]
    assert next(i.fields["timestamp"] for i in read(tmp_path, data, "x.arc") if hasattr(i, "fields")) == (
        "2008-04-30T20:48:25Z"
    )


@pytest.mark.parametrize("suffix", [".xz", ".bz2", ".zst", ".gz"])
def test_what_is_unread_at_the_end_of_a_compressed_archive_is_counted_as_stored(suffix: str, tmp_path: Path) -> None:
    """Unpacked, the rubbish is many times the file: that share of a file cannot be lost."""
    rubbish = b"no record begins here\n" * 20_000
    pack = {".xz": lzma.compress, ".bz2": bz2.compress, ".gz": gzip.compress, ".zst": zstandard.compress}[suffix]
    data = pack(wet(0) + rubbish)
    fault = faults(read(tmp_path, data, f"x.warc{suffix}"))[0]
    assert fault.kind == BROKEN_FILE
    assert 0 < fault.nbytes <= len(data)
