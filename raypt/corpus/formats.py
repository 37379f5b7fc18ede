"""Readers by format: a piece of a file in, a stream of records, faults and skips out. Nothing is silently lost."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, cast

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from fastwarc.warc import ArchiveIterator, WarcRecordType
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding
from resiliparse.parse.html import HTMLTree

from raypt import storage
from raypt.corpus.config import HtmlConfig
from raypt.corpus.records import EXCERPT_BYTES, Fault, Record, Skip

Item = Record | Fault | Skip

_BROKEN_STREAM = (EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError)


class _ZstdFile(io.RawIOBase):
    """Decompressed bytes of zstd frames; unlike zstandard's own stream reader it raises EOFError on a truncated one."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._inside_frame = False
        self._compressed = self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            data = self._compressed or self._raw.read(1 << 17)
            if not data:
                if self._inside_frame:
                    raise EOFError("the zstd stream ends inside a frame")
                return 0
            self._ready = self._frame.decompress(data)
            self._compressed, self._inside_frame = self._frame.unused_data, not self._frame.eof
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
        n = min(len(buffer), len(self._ready))
        buffer[:n], self._ready = self._ready[:n], self._ready[n:]
        return n


MAX_DEPTH = 2000
"""Levels of nesting; browsers stop at 512."""
MANY_TAGS = 10_000
"""Pages of fewer tags, start and end, are quick at any depth they can have (under half a second)."""


def open_decompressed(uri: str) -> IO[bytes]:
    """The bytes of a file behind its .gz, .zst, .bz2 or .xz."""
    raw = storage.open_read(uri)
    # These buffer little: a bigger buffer would lose what stands before the break of a broken file.
    if uri.endswith(".gz"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    if uri.endswith(".bz2"):
        return bz2.BZ2File(raw)
    if uri.endswith(".xz"):
        return lzma.LZMAFile(raw)
    if uri.endswith(".zst"):
        return io.BufferedReader(_ZstdFile(raw))
    return raw


def _lines(uri: str, start: int, stop: int | None, limit: int | None) -> Iterator[tuple[int, int, bytes, int] | Fault]:
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
        except _BROKEN_STREAM as e:
            yield Fault(
                row, "broken_file", f"the file cannot be read on after {row} records: {e or type(e).__name__}", offset
            )


def read_jsonl(uri: str, start: int, stop: int | None, *, limit: int | None, html: HtmlConfig) -> Iterator[Item]:
    """One JSON object a line."""
    # An escape takes six bytes for as little as one of UTF-8: a longer line may still hold a text within the limit.
    line_limit = None if limit is None else 6 * limit + 65536
    for item in _lines(uri, start, stop, line_limit):
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


def read_line_documents(
    uri: str, start: int, stop: int | None, *, limit: int | None, html: HtmlConfig
) -> Iterator[Item]:
    """One document a line of plain text."""
    for item in _lines(uri, start, stop, limit):
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


def read_text_file(uri: str, start: int, stop: int | None, *, limit: int | None, html: HtmlConfig) -> Iterator[Item]:
    """A whole file as one document. An empty file has none."""
    try:
        with open_decompressed(uri) as f:
            data = f.read() if limit is None else f.read(limit + 1)
    except _BROKEN_STREAM as e:
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


def read_parquet(uri: str, start: int, stop: int | None, *, limit: int | None, html: HtmlConfig) -> Iterator[Item]:
    """Rows of the row groups [start, stop), numbered as in the file."""
    if storage.size(uri) == 0:
        return
    row = 0
    with storage.open_read(uri) as f:
        try:
            file = pq.ParquetFile(f)
            row = sum(file.metadata.row_group(group).num_rows for group in range(start))
            groups = range(start, file.num_row_groups if stop is None else stop)
            for batch in file.iter_batches(batch_size=1024, row_groups=list(groups)):
                try:
                    rows = batch.to_pylist()
                except UnicodeDecodeError:
                    yield from _rows_with_broken_strings(batch, row)
                else:
                    for i, fields in enumerate(rows):
                        yield Record(row + i, fields)
                row += batch.num_rows
        except (pa.ArrowInvalid, OSError) as e:
            yield Fault(row, "broken_file", f"the file cannot be read on after {row} rows: {e}")


def _rows_with_broken_strings(batch: pa.RecordBatch, row: int) -> Iterator[Item]:
    for i in range(batch.num_rows):
        try:
            yield Record(row + i, batch.slice(i, 1).to_pylist()[0])
        except UnicodeDecodeError as e:
            yield Fault(row + i, "invalid_utf8", f"invalid UTF-8: {e.reason}", None, bytes(e.object[:EXCERPT_BYTES]))


def decode(data: bytes, declared: str | None) -> str:
    """Text of bytes in the declared character set where there is such a set, else in the detected one (else UTF-8)."""
    if declared:
        try:
            return bytes_to_str(data, declared)
        except LookupError:
            pass
    return bytes_to_str(data, detect_encoding(data) or "utf-8")


def html_to_text(data: bytes, declared: str | None, config: HtmlConfig) -> str:
    """Text of an HTML page (resiliparse). Of a page nested deeper than MAX_DEPTH all text is taken: the search for main
    content takes time quadratic in the depth (5 s at 16,000).
    """
    html = decode(data, declared)
    tree = HTMLTree.parse(html)
    hostile = html.count("<") > MANY_TAGS and deeper_than(tree, MAX_DEPTH)
    return extract_plain_text(
        tree,
        main_content=config.main_content and not hostile,
        preserve_formatting=config.preserve_formatting,
        alt_texts=False,
    )


def deeper_than(tree: HTMLTree, limit: int) -> bool:
    """Whether an element lies more than `limit` levels down. About 4 us a node: for pages of many tags."""
    node: Any = tree.document
    depth = 0
    while True:
        if node.first_child is not None:
            node, depth = node.first_child, depth + 1
            if depth > limit:
                return True
            continue
        while node.next is None:
            node, depth = node.parent, depth - 1
            if depth <= 0:
                return False
        node = node.next


def _warc_item(record: Any, row: int, limit: int | None, html: HtmlConfig) -> Item:
    if record.record_type == WarcRecordType.revisit:
        return Skip(row, "warc_revisit")
    if record.record_type not in (WarcRecordType.response, WarcRecordType.conversion, WarcRecordType.resource):
        return Skip(row, f"warc_{record.headers.get('WARC-Type', 'unknown').lower()}")
    if limit is not None and record.content_length > 10 * limit:
        return Fault(row, "too_long", f"the record has {record.content_length} bytes", nbytes=record.content_length)
    charset: str | None = None
    if record.record_type == WarcRecordType.response:
        record.parse_http()
        if record.http_headers is None:
            return Skip(row, "warc_not_http")
        if record.http_headers.status_code not in (200, None):
            return Skip(row, "warc_http_status")
        content_type, charset = (record.http_content_type or "").lower(), record.http_charset
    else:
        content_type = (record.headers.get("Content-Type") or "").lower()
    data = record.reader.read()
    if "html" in content_type:
        text = html_to_text(data, charset, html)
    elif "text/plain" in content_type or not content_type:
        text = decode(data, charset)
    else:
        return Skip(row, "warc_not_html", len(data))
    fields = {
        "text": text,
        "id": record.record_id,
        "url": record.headers.get("WARC-Target-URI"),
        "timestamp": record.headers.get("WARC-Date"),
    }
    return Record(row, fields)


def read_warc(uri: str, start: int, stop: int | None, *, limit: int | None, html: HtmlConfig) -> Iterator[Item]:
    """WARC, WET and (through fastwarc's legacy reader) ARC records, plain or compressed."""
    row = 0
    try:
        with storage.open_read(uri) as f:
            for record in ArchiveIterator(f, parse_http=False):
                try:
                    yield _warc_item(record, row, limit, html)
                except (ValueError, UnicodeError, RuntimeError) as e:
                    yield Fault(row, "bad_record", f"{type(e).__name__}: {e}")
                row += 1
    except (*_BROKEN_STREAM, RuntimeError, ValueError) as e:
        yield Fault(row, "broken_file", f"the file cannot be read on after {row} records: {e or type(e).__name__}")


READERS: dict[str, Callable[..., Iterator[Item]]] = {
    "jsonl": read_jsonl,
    "lines": read_line_documents,
    "text": read_text_file,
    "parquet": read_parquet,
    "warc": read_warc,
}
