"""Records of an archive: lengths are checked, and what makes no sense costs no more than itself.

A record's length is believed if the end of a record follows (WARC 1.1, 4: two line ends) or the next record. If not,
reading goes on at the next record header, also one that the wrong length would have swallowed, and the bytes between
are counted as unread. Line ends may be line feeds alone, as some tools write them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from raypt.corpus.records import BROKEN_FILE, EXCERPT_BYTES
from raypt.corpus.warc.buffer import Buffer
from raypt.corpus.warc.pieces import Gap, Piece

MAX_HEADER_BYTES = 1 << 16
BAD_RECORD = "bad_record"
HEAD_BYTES = 1 << 16
"""What is kept of a block that is longer than what is held."""

_LINE = rb"[ \t]*\r?\n"
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_FIELD = re.compile(r"^([!-9;-~]+)[ \t]*:[ \t]*(.*?)[ \t]*\r?$", re.M)
_WARC = rb"WARC/\d{1,2}\.\d{1,3}" + _LINE
_WARC_LINE = re.compile(_WARC)
_ARC = rb"[a-z][a-z0-9+.-]{1,20}:[^\s]{0,4096} [0-9a-fA-F.:]{3,45} \d{8,17} [^\r\n]{0,512}?\d{1,12}" + _LINE
_ARC_LINE = re.compile(_ARC)
_WARC_START = re.compile(rb"(?:(?<=\n)|\A)" + _WARC + rb"[!-9;-~]{1,100}:")
_ARC_START = re.compile(rb"(?:(?<=\n)|\A)" + _ARC)
_ANY_START = re.compile(_WARC_START.pattern + b"|" + _ARC_START.pattern)
_LINE_END = re.compile(rb"\n")
_LONGEST = 8192
_DIGITS = re.compile(r"\d{1,15}")


@dataclass(frozen=True, slots=True)
class ArchiveRecord:
    """A record: `headers` with names in lower case, its `block` (of a long one the start), the block's `length`."""

    headers: dict[str, str]
    block: bytes
    length: int
    position: int
    """Of its first byte, in the unpacked archive."""
    ended: bool = True
    """False: the file ends before the line ends that end a record."""


@dataclass(frozen=True, slots=True)
class Unread:
    """Bytes that belong to no record which can be read. `kind`: bad_record, or broken_file where the file ends."""

    kind: str
    message: str
    nbytes: int
    """Unpacked bytes of a bad_record; stored ones of a gap and of a broken_file."""
    position: int
    start: bytes


def records(pieces: Iterator[Piece | Gap], plain: bool, hold: int) -> Iterator[ArchiveRecord | Unread]:
    """The records of an archive in order, and what could not be read between them.

    `plain`: the archive is not compressed. Of a block longer than `hold` bytes only the start is kept.
    """
    buffer = Buffer(pieces, plain)
    done = 0  # up to where the file has been read, in stored bytes
    while True:
        buffer.skip_bytes(b"\r\n\0")
        start, begun = buffer.position, buffer.has(1)
        if begun:
            outcome = _next(buffer, hold)
            if outcome is not None:
                if isinstance(outcome, Unread) and outcome.kind == BROKEN_FILE and not plain:
                    outcome = replace(outcome, nbytes=max(buffer.stored_end - done, 0))
                yield outcome
                if isinstance(outcome, ArchiveRecord) and not outcome.ended:
                    message = "the file ends within the line ends behind its last record"
                    yield Unread(BROKEN_FILE, message, 0, buffer.position, b"")
                    return
                done = buffer.stored
                continue
        # Here the archive ends or has a gap, perhaps within a record.
        end, excerpt = buffer.stored_end, bytes(buffer.data[buffer.at : buffer.at + EXCERPT_BYTES]) if begun else b""
        gap = buffer.pass_gap()
        if gap is None:
            if begun:
                yield Unread(BROKEN_FILE, "the file ends within a record", max(end - done, 0), start, excerpt)
            return
        yield Unread(BROKEN_FILE if gap.last else BAD_RECORD, gap.message, max(gap.stored - done, 0), start, excerpt)
        if gap.last:
            return
        done = gap.stored


def _next(buffer: Buffer, hold: int) -> ArchiveRecord | Unread | None:
    """What begins at the buffer's place, which goes behind it; None if the archive ends or has a gap within it."""
    if buffer.find(_LINE_END, 0, _LONGEST) is None and buffer.left < _LONGEST:
        return None
    if _WARC_LINE.match(buffer.data, buffer.at):
        end = buffer.find(_HEADER_END, 0, MAX_HEADER_BYTES)
        if end is None:
            return None if buffer.left < MAX_HEADER_BYTES else _resynchronise(buffer, 1, "a record header without end")
        header = bytes(buffer.data[buffer.at : end.end()])
        fields = {name.lower(): value for name, value in _FIELD.findall(header.decode("utf-8", "replace"))}
        given = fields.get("content-length")
        if given is None:
            return _resynchronise(buffer, 1, "a record without Content-Length")
        if not _DIGITS.fullmatch(given):
            return _resynchronise(buffer, 1, "a record whose Content-Length is no number")
        return _record(buffer, fields, len(header), int(given), hold, arc=False)
    if arc := _ARC_LINE.match(buffer.data, buffer.at):
        words = arc[0].split()
        fields = {
            "warc-type": "warcinfo" if arc[0].startswith(b"filedesc:") else "response",
            "warc-target-uri": words[0].decode("utf-8", "replace"),
            "warc-date": _date(words[2].decode()),
            "content-type": "application/http" if arc[0].startswith(b"http") else "",
        }
        return _record(buffer, fields, len(arc[0]), int(words[-1]), hold, arc=True)
    return _resynchronise(buffer, 0, "no record begins here")


def _record(
    buffer: Buffer, fields: dict[str, str], head: int, length: int, hold: int, arc: bool
) -> ArchiveRecord | Unread | None:
    """The record at the buffer's place, whose header has `head` bytes, if its length is right."""
    start, pattern = buffer.position, _ARC_START if arc else _WARC_START
    if length <= hold:
        if not buffer.has(head + length) and not pattern.search(buffer.data, buffer.at + head):
            return None
        block = bytes(buffer.data[buffer.at + head : buffer.at + head + length])
        whole, behind = len(block) == length, head + length
    else:
        block = buffer.peek(HEAD_BYTES, head)
        buffer.at += head
        # What is not held cannot be gone back to: a record header in it is believed at once.
        whole = not buffer.skip_to(pattern, _LONGEST, length)
        if whole and buffer.position < start + head + length:
            return None
        behind = 0
    end = _end(buffer, behind, arc) if whole else None
    if end is None:
        if behind:
            buffer.at += head
        found = buffer.skip_to(pattern, _LONGEST)
        where = "the next record begins elsewhere" if found else "no record follows"
        message = f"a Content-Length of {length} is wrong: {where}"
        return Unread(BAD_RECORD, message, buffer.position - start, start, block[:EXCERPT_BYTES])
    line_ends, ended = end
    buffer.at += behind + line_ends
    return ArchiveRecord(fields, block, length, start, ended)


def _end(buffer: Buffer, behind: int, arc: bool) -> tuple[int, bool] | None:
    """(bytes of the line ends after a block that ends `behind` bytes from here, whether these are all that there should
    be); None if neither the end of a record nor the next one follows."""
    tail = buffer.peek(4, behind)
    for ends in (b"\r\n\r\n", b"\n\n"):
        if tail.startswith(ends):
            return len(ends), True
    if len(tail) < 4 and not tail.strip(b"\r\n"):
        return len(tail), arc or buffer.gap is not None
    rest = buffer.peek(_LONGEST if arc else 64, behind)
    stripped = rest.lstrip(b"\r\n")
    return (len(rest) - len(stripped), True) if (_ARC_LINE if arc else _WARC_LINE).match(stripped) else None


def _resynchronise(buffer: Buffer, skip: int, message: str) -> Unread:
    """Go to the next record header behind `skip` bytes."""
    start, excerpt = buffer.position, bytes(buffer.data[buffer.at : buffer.at + EXCERPT_BYTES])
    buffer.at += skip
    found = buffer.skip_to(_ANY_START, _LONGEST)
    kind = BAD_RECORD if found or buffer.gap is not None else BROKEN_FILE
    return Unread(kind, message, buffer.position - start, start, excerpt)


def _date(digits: str) -> str:
    """20260101120000 as 2026-01-01T12:00:00Z; what is no such number as it is."""
    if len(digits) != 14:
        return digits
    d = digits
    return f"{d[:4]}-{d[4:6]}-{d[6:8]}T{d[8:10]}:{d[10:12]}:{d[12:]}Z"
