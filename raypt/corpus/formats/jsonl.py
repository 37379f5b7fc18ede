"""JSON Lines."""

from collections.abc import Iterator

import orjson

from raypt.corpus.formats.lines import split_lines
from raypt.corpus.records import EXCERPT_BYTES, Fault, Item, ReadRequest, Record


def read_jsonl(request: ReadRequest) -> Iterator[Item]:
    """One JSON object a line."""
    start, limit = request.start, request.max_document_bytes
    # An escape takes six bytes for as little as one of UTF-8: a longer line may still hold a text within the limit.
    line_limit = None if limit is None else 6 * limit + 65536
    for item in split_lines(request.uri, start, request.stop, line_limit):
        if isinstance(item, Fault):
            yield item
            continue
        row, offset, line, length = item
        if line_limit is not None and length > line_limit:
            yield Fault(row, "too_long", f"the line has {length} bytes", offset, line[:EXCERPT_BYTES], length)
            continue
        if row == 0 and start == 0:
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            fields = orjson.loads(line)
        except orjson.JSONDecodeError as e:
            try:
                line.decode()
                kind, message = "not_json", f"not JSON: {e}"
            except UnicodeDecodeError as u:
                kind, message = "invalid_utf8", f"invalid UTF-8 at byte {u.start} of the line: {u.reason}"
            yield Fault(row, kind, message, offset, line[:EXCERPT_BYTES], length)
            continue
        if isinstance(fields, dict):
            yield Record(row, fields)
        else:
            message = f"a JSON {type(fields).__name__}, not an object; one document is one {{...}} on one line"
            yield Fault(row, "not_object", message, offset, line[:EXCERPT_BYTES], length)
