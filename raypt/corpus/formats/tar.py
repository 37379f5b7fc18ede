"""WebDataset tars: members whose names differ only behind the first dot are one sample. Streamed, never unpacked."""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from raypt.corpus.formats.html import DIGEST, digest_of, html_to_text, wants_digest
from raypt.corpus.formats.jsonl import json_item
from raypt.corpus.formats.lines import cut, decode, split_lines, undecodable, untouched
from raypt.corpus.formats.raw import BrokenStream
from raypt.corpus.formats.stream import InputStream
from raypt.corpus.records import EXCERPT_BYTES, Fault, Item, ReadRequest, Record, Skip

BLOCK = 512
MAX_NAME_BYTES = 1 << 16
TEXT = ("txt", "text", "md", "cls", "transcript")
"""Suffixes of members that are text; `txt` and `text` are also the field `text` of their sample."""
JSON, HTML, LINES = ("json",), ("html", "htm"), ("jsonl", "ndjson")


@dataclass
class _Member:
    name: str
    size: int
    offset: int


class _Tar:
    """Headers and contents of the members of a stream, in order."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._data, self._at = pieces, b"", 0
        self.offset = 0
        self.ended = False
        """Whether the mark at the end of an archive was seen behind the last member."""

    def read(self, n: int) -> bytes:
        """`n` bytes, fewer at the end of the stream."""
        parts = []
        while n > 0:
            if self._at == len(self._data):
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._data, self._at = piece, 0
                continue
            part = self._data[self._at : self._at + n]
            self._at += len(part)
            self.offset += len(part)
            n -= len(part)
            parts.append(part)
        return b"".join(parts)

    def skip(self, n: int) -> None:
        while n > 0:
            part = self.read(min(n, 1 << 20))
            if not part:
                raise BrokenStream(f"the archive ends {n} bytes before a member does")
            n -= len(part)

    def stream(self, n: int) -> Iterator[bytes]:
        """A member's contents in pieces."""
        left = n
        while left > 0:
            part = self.read(min(left, 1 << 20))
            if not part:
                raise BrokenStream(f"the archive ends {left} bytes before a member does")
            left -= len(part)
            yield part
        self.skip(-n % BLOCK)

    def contents(self, n: int) -> bytes:
        data = self.read(n)
        if len(data) < n:
            raise BrokenStream(f"the archive ends {n - len(data)} bytes before a member does")
        self.skip(-n % BLOCK)
        return data

    def members(self) -> Iterator[_Member | tuple[int, bytes]]:
        """Members, whose contents are to be read or skipped before the next one is asked for; (bytes, start) of what
        stands between two members and is none."""
        name: str | None = None
        size: int | None = None
        lost, start = 0, b""
        while header := self.read(BLOCK):
            if len(header) < BLOCK:
                raise BrokenStream("the archive ends inside a header")
            if not header.strip(b"\0"):
                self.ended = True
                continue
            parsed = _header(header)
            if parsed is None:
                lost, start = lost + BLOCK, start or header
                continue
            self.ended = False
            if lost:
                yield lost, start
                lost, start = 0, b""
            kind, own_name, own_size = parsed
            if kind in b"LxgK":
                if own_size > MAX_NAME_BYTES:
                    raise BrokenStream(f"a header of {own_size} bytes")
                more = self.contents(own_size)
                if kind == b"L":
                    name = more.rstrip(b"\0").decode("utf-8", "backslashreplace")
                elif kind == b"x":
                    extended = _pax(more)
                    name = extended.get("path", name)
                    size = int(extended["size"]) if extended.get("size", "").isdecimal() else size
                continue
            member = _Member(name or own_name, own_size if size is None else size, self.offset)
            name = size = None
            if kind in b"07\0":
                yield member
            else:  # directories, links, devices have no contents
                self.skip(own_size + -own_size % BLOCK)
        if lost:
            yield lost, start
        if not self.ended:
            raise BrokenStream("the archive has no end mark: it may have been cut")


def _number(field: bytes) -> int | None:
    """A number of a header: octal digits, or base 256 where the first bit is set (GNU)."""
    if field[:1] and field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.strip(b" \0")
    try:
        return int(digits or b"0", 8)
    except ValueError:
        return None


def _header(block: bytes) -> tuple[bytes, str, int] | None:
    """(type, name, size) of a header block whose checksum is right."""
    size, checksum = _number(block[124:136]), _number(block[148:156])
    if size is None or checksum != sum(block[:148]) + 8 * 0x20 + sum(block[156:]):
        return None
    name = block[:100].rstrip(b"\0")
    if block[257:262] == b"ustar" and block[262:263] == b"\0" and (prefix := block[345:500].rstrip(b"\0")):
        name = prefix + b"/" + name
    return block[156:157], name.decode("utf-8", "backslashreplace"), size


def _pax(data: bytes) -> dict[str, str]:
    """Keys and values of an extended header: `length key=value\\n` (POSIX.1-2001)."""
    out = {}
    while data:
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or not 0 < int(length[:6]) <= len(data):
            break
        entry, data = data[len(length) + 1 : int(length)], data[int(length) :]
        key, _, value = entry.rstrip(b"\n").partition(b"=")
        out[key.decode("utf-8", "replace")] = value.decode("utf-8", "backslashreplace")
    return out


@dataclass
class _Sample:
    key: str
    offset: int
    fields: dict[str, Any] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    has_text: bool = False
    nbytes: int = 0
    held: int = 0
    """Bytes of the members that are kept in memory."""


def _split_name(name: str) -> tuple[str, str]:
    """(key, suffix): the path up to the first dot of its last component, and what is behind it."""
    folder, base = posixpath.split(name)
    stem, _, suffix = base.partition(".")
    return posixpath.join(folder, stem), suffix.lower()


def _add(sample: _Sample, suffix: str, data: bytes, row: int, offset: int, request: ReadRequest, encoding: str) -> None:
    """Put a member's contents into its sample."""
    sample.has_text = True
    if suffix in JSON:
        item = json_item(row, offset, data, len(data), encoding, request, request.names)
        if isinstance(item, Record):
            sample.fields = {**item.fields, **sample.fields, suffix: item.fields}
        elif isinstance(item, Fault):
            sample.faults.append(item)
        return
    try:
        text = html_to_text(data, request.encoding, request.html) if suffix in HTML else decode(data, encoding)
    except UnicodeDecodeError as e:
        sample.faults.append(undecodable(row, offset, data, len(data), e))
        return
    except (ValueError, RuntimeError) as e:
        sample.faults.append(Fault(row, "bad_record", f"{e}", offset, data[:EXCERPT_BYTES], len(data)))
        return
    sample.fields[suffix] = text
    if suffix in HTML and wants_digest(request):
        sample.fields[DIGEST] = digest_of(data)
    if suffix in ("txt", "text", *HTML):
        sample.fields["text"] = text


def _lines(
    tar: _Tar, member: _Member, row: int, limit: int | None, encoding: str, request: ReadRequest
) -> Iterator[Item]:
    """The records of a member of JSON Lines."""
    names = request.names
    for i, offset, line, length, whole in split_lines(tar.stream(member.size), member.offset, None, limit):
        if row + i in request.skip:
            yield untouched(row + i, offset, length)
        elif not whole:
            message = f"the record has {length} bytes"
            yield Fault(row + i, "too_long", message, offset, line[:EXCERPT_BYTES], length)
        else:
            yield json_item(row + i, offset, line, length, encoding, request, names)


def _finish(sample: _Sample, row: int, skip: frozenset[int]) -> Item:
    if row in skip:
        return untouched(row, sample.offset, sample.nbytes)
    if sample.faults:
        first = sample.faults[0]
        return Fault(row, first.kind, f"{sample.key}: {first.message}", first.offset, first.raw, sample.nbytes)
    if not sample.has_text:
        return Skip(row, "no_text_member", sample.nbytes)
    return Record(row, {"id": sample.key, **sample.fields, "__key__": sample.key})


def read_tar(request: ReadRequest) -> Iterator[Item]:
    """A sample a record: its JSON member's fields, its text as `text`, and each text member under its suffix. A member
    of JSON Lines is a record a line. Samples without text (images) are counted."""
    limit = None if request.max_document_bytes is None else 6 * request.max_document_bytes + 65536
    row = 0
    sample: _Sample | None = None
    with InputStream(request) as stream:
        tar = _Tar(stream.pieces())
        try:
            for member in tar.members():
                if isinstance(member, tuple):
                    lost, start = member
                    message = f"{lost} bytes between two members are none"
                    yield Fault(row, "bad_record", message, tar.offset - BLOCK - lost, start, lost)
                    row += 1
                    continue
                key, suffix = _split_name(member.name)
                if sample is not None and key != sample.key:
                    yield _finish(sample, row, request.skip)
                    sample, row = None, row + 1
                wanted = suffix in TEXT + JSON + HTML
                if suffix in LINES:
                    for item in _lines(tar, member, row, limit, stream.encoding, request):
                        yield item
                        row += 1
                    continue
                sample = sample or _Sample(key, member.offset)
                sample.nbytes += member.size
                sample.held += member.size if wanted else 0
                if wanted and limit is not None and sample.held > limit:
                    message = f"the member {suffix} has {member.size} bytes"
                    sample.faults.append(Fault(row, "too_long", message, member.offset, b"", member.size))
                    tar.skip(member.size + -member.size % BLOCK)
                elif wanted:
                    _add(sample, suffix, tar.contents(member.size), row, member.offset, request, stream.encoding)
                else:
                    tar.skip(member.size + -member.size % BLOCK)
            if sample is not None:
                yield _finish(sample, row, request.skip)
        except BrokenStream as e:
            if sample is not None:
                yield _finish(sample, row, request.skip)
                row += 1
            yield cut(row, e, tar.offset)
