"""Plain text: a file is a document."""

from collections.abc import Iterator

from raypt.corpus.formats.compression import BROKEN_STREAM, open_decompressed
from raypt.corpus.records import EXCERPT_BYTES, Fault, Item, ReadRequest, Record


def read_text_file(request: ReadRequest) -> Iterator[Item]:
    """A whole file as one document. An empty file has none."""
    uri, limit = request.uri, request.max_document_bytes
    try:
        with open_decompressed(uri) as f:
            data = f.read() if limit is None else f.read(limit + 1)
    except BROKEN_STREAM as e:
        yield Fault(0, "broken_file", f"the file cannot be read: {e or type(e).__name__}")
        return
    if not data:
        return
    if limit is not None and len(data) > limit:
        yield Fault(0, "too_long", f"the file has more than {limit} bytes of text", 0, data[:EXCERPT_BYTES], len(data))
        return
    try:
        yield Record(0, {"text": data.decode("utf-8-sig"), "id": uri.rsplit("/", 1)[-1]})
    except UnicodeDecodeError as e:
        message = f"invalid UTF-8 at byte {e.start}: {e.reason}"
        yield Fault(0, "invalid_utf8", message, e.start, data[:EXCERPT_BYTES], len(data))
