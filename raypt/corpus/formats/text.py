"""Plain text: a file is a document."""

import hashlib
from collections.abc import Iterator

from raypt.corpus.formats.lines import decode, undecodable, untouched
from raypt.corpus.formats.raw import BrokenStream
from raypt.corpus.formats.stream import InputStream, broken
from raypt.corpus.paths import file_name
from raypt.corpus.records import EXCERPT_BYTES, Fault, Item, ReadRequest, Record


def read_whole(request: ReadRequest, digest: "hashlib._Hash | None" = None) -> tuple[bytes, str, bool] | Fault | None:
    """(bytes, character set, whether a byte order mark said so) of a file, None if empty, or why it is no document.
    `digest` takes the bytes as the file has them."""
    limit = request.max_document_bytes
    with InputStream(request, digest) as stream:
        if 0 in request.skip:
            return untouched(0, 0, stream.unread)
        held: list[bytes] = []
        length = 0
        try:
            for piece in stream.pieces():
                length += len(piece)
                if limit is None or length <= limit:
                    held.append(piece)
                else:  # read on for the length, so that what is lost is counted
                    held = [b"".join([*held, piece])[:EXCERPT_BYTES]] if length - len(piece) <= limit else held
        except BrokenStream as e:
            return broken(0, e)
    data = b"".join(held)
    if limit is not None and length > limit:
        message = f"the file has {length} bytes of text, more than corpus.max_document_bytes={limit}"
        return Fault(0, "too_long", message, 0, data[:EXCERPT_BYTES], length)
    return (data, stream.encoding, stream.skipped > 0) if data else None


def read_text_file(request: ReadRequest) -> Iterator[Item]:
    """A whole file as one document. An empty file has none."""
    read = read_whole(request)
    if isinstance(read, Fault):
        yield read
    elif read is not None:
        data, encoding, _ = read
        try:
            yield Record(0, {"text": decode(data, encoding), "id": file_name(request.uri)})
        except UnicodeDecodeError as e:
            yield undecodable(0, e.start, data, len(data), e)
