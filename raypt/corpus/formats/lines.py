"""Files of lines: where a line begins and ends, and one document a line of plain text."""

from collections.abc import Iterable, Iterator

from raypt.corpus.formats.raw import BrokenStream
from raypt.corpus.formats.stream import InputStream, broken
from raypt.corpus.records import EXCERPT_BYTES, Fault, Item, ReadRequest, Record

Line = tuple[int, int, bytes, int, bool]
"""Row among the lines that are not blank, offset of its first byte, the line without its line feed, its length with it,
and whether it is whole (not cut for its length)."""


class CutStream(BrokenStream):
    """A stream that broke inside a line: `start` and `length` of what came of it."""

    def __init__(self, error: BrokenStream, start: bytes, length: int) -> None:
        super().__init__(str(error), error.unread)
        self.start, self.length = start, length


def split_lines(
    pieces: Iterable[bytes], offset: int, stop: int | None, limit: int | None, blank: bool = False
) -> Iterator[Line]:
    """The lines that begin before `stop`; `offset` is that of the first byte of `pieces`. Blank lines have no row and
    do not come, unless `blank`.

    A line longer than `limit` comes back cut to EXCERPT_BYTES with its whole length, so that memory stays bounded.

    Raises:
        BrokenStream: from `pieces`, after the last whole line; CutStream if part of another came.
    """
    row = 0
    held: list[bytes] = []
    length = kept = 0
    try:
        for piece in pieces:
            lines = piece.split(b"\n")
            last = len(lines) - 1
            for i, part in enumerate(lines):
                length += len(part)
                if limit is not None and length > limit:
                    part = part[: max(0, EXCERPT_BYTES - kept)]
                    if kept > EXCERPT_BYTES:
                        held, kept = [b"".join(held)[:EXCERPT_BYTES]], EXCERPT_BYTES
                if i == last:
                    held.append(part)
                    kept += len(part)
                    break
                if held:
                    held.append(part)
                    part = b"".join(held)
                    held, kept = [], 0
                if blank or (part and not part.isspace()):
                    yield row, offset, part, length + 1, limit is None or length <= limit
                    row += 1
                offset += length + 1
                length = 0
                if stop is not None and offset >= stop:
                    return
    except BrokenStream as e:
        if length:
            raise CutStream(e, b"".join(held)[:EXCERPT_BYTES], length) from None
        raise
    part = b"".join(held)
    if part and (blank or not part.isspace()):
        yield row, offset, part, length, limit is None or length <= limit


def request_lines(request: ReadRequest, stream: InputStream, limit: int | None, blank: bool = False) -> Iterator[Line]:
    """The lines of a piece: those that begin in [start, stop)."""
    start, stop = request.start, request.stop
    if not start:
        pieces = stream.pieces()
        first = next(pieces, b"")  # after it, the length of the byte order mark is known
        yield from split_lines(_chain(first, pieces), stream.skipped, stop, limit, blank)
        return
    # A line belongs to the piece it begins in: step back one byte to see whether one begins right here.
    pieces, offset = stream.pieces(start - 1), start - 1
    for piece in pieces:
        at = piece.find(b"\n")
        if at >= 0:
            offset += at + 1
            if stop is None or offset < stop:
                yield from split_lines(_chain(piece[at + 1 :], pieces), offset, stop, limit, blank)
            return
        offset += len(piece)


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def decode(data: bytes, encoding: str) -> str:
    """Text of bytes. Raises UnicodeDecodeError."""
    return data.decode() if encoding == "utf-8" else data.decode(encoding)


def undecodable(row: int, offset: int | None, data: bytes, length: int, error: UnicodeDecodeError) -> Fault:
    message = f"invalid {error.encoding} at byte {error.start} of the record: {error.reason}"
    return Fault(row, "invalid_utf8", message, offset, data[:EXCERPT_BYTES], length)


def cut(row: int, error: BrokenStream, offset: int | None) -> Fault:
    """The fault that ends a file, with what came of the record it broke in."""
    fault = broken(row, error, offset)
    if isinstance(error, CutStream):
        message = f"{fault.message}; {error.length} bytes of another record came before that"
        return Fault(row, fault.kind, message, offset, error.start, fault.nbytes)
    return fault


def read_line_documents(request: ReadRequest) -> Iterator[Item]:
    """One document a line of plain text. Indentation stays; a carriage return before the line feed is no text."""
    limit, row = request.max_document_bytes, 0
    line_limit = None if limit is None else limit + 1  # a carriage return may stand behind it
    with InputStream(request) as stream:
        try:
            for row, offset, line, length, whole in request_lines(request, stream, line_limit):
                line = line.removesuffix(b"\r")
                if row in request.skip:
                    yield untouched(row, offset, length)
                elif not whole or (limit is not None and len(line) > limit):
                    message = f"the line has {length} bytes"
                    yield Fault(row, "too_long", message, offset, line[:EXCERPT_BYTES], length)
                else:
                    try:
                        yield Record(row, {"text": decode(line, stream.encoding)})
                    except UnicodeDecodeError as e:
                        yield undecodable(row, offset, line, length, e)
                row += 1
        except BrokenStream as e:
            yield cut(row, e, None)


def untouched(row: int, offset: int | None, length: int) -> Fault:
    """The fault of a record that has killed or hung a process which read it."""
    return Fault(row, "killed_reader", "reading this record killed or hung the process", offset, b"", length)
