"""Files of lines: where a line begins and ends, and one document a line of plain text."""

from collections.abc import Iterator

from raypt.corpus.formats.compression import BROKEN_STREAM, open_decompressed
from raypt.corpus.records import EXCERPT_BYTES, Fault, Item, ReadRequest, Record


def split_lines(
    uri: str, start: int, stop: int | None, limit: int | None
) -> Iterator[tuple[int, int, bytes, int] | Fault]:
    """(row, offset, line, length) of the non-empty lines that begin in [start, stop).

    A line longer than `limit` is read in pieces and comes back cut to EXCERPT_BYTES with its whole length, so that
    memory stays bounded. A stream that breaks (truncated .gz) ends with a Fault that says after which record.
    """
    row, offset = 0, start
    with open_decompressed(uri) as f:
        try:
            if start:
                # A line belongs to the piece it begins in: step back one byte to see whether one begins right here.
                f.seek(start - 1)
                offset = start - 1 + len(f.readline())
            while stop is None or offset < stop:
                line = f.readline() if limit is None else f.readline(limit + 1)
                if not line:
                    return
                length = len(line)
                if limit is not None and length > limit and not line.endswith(b"\n"):
                    while more := f.readline(1 << 20):
                        length += len(more)
                        if more.endswith(b"\n"):
                            break
                    line = line[:EXCERPT_BYTES]
                stripped = line.strip()
                if stripped:
                    yield row, offset, stripped, length
                    row += 1
                offset += length
        except BROKEN_STREAM as e:
            yield Fault(
                row, "broken_file", f"the file cannot be read on after {row} records: {e or type(e).__name__}", offset
            )


def read_line_documents(request: ReadRequest) -> Iterator[Item]:
    """One document a line of plain text."""
    limit = request.max_document_bytes
    for item in split_lines(request.uri, request.start, request.stop, limit):
        if isinstance(item, Fault):
            yield item
            continue
        row, offset, line, length = item
        if limit is not None and length > limit + 1:
            yield Fault(row, "too_long", f"the line has {length} bytes", offset, line[:EXCERPT_BYTES], length)
            continue
        try:
            yield Record(row, {"text": line.decode()})
        except UnicodeDecodeError as e:
            message = f"invalid UTF-8 at byte {e.start} of the line: {e.reason}"
            yield Fault(row, "invalid_utf8", message, offset, line[:EXCERPT_BYTES], length)
