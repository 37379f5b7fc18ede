"""WARC, WET and ARC."""

from collections.abc import Iterator
from typing import Any

from fastwarc.warc import ArchiveIterator, WarcRecordType

from raypt import storage
from raypt.corpus.config import HtmlConfig
from raypt.corpus.formats.charset import decode
from raypt.corpus.formats.compression import BROKEN_STREAM
from raypt.corpus.formats.html import html_to_text
from raypt.corpus.records import Fault, Item, ReadRequest, Record, Skip


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


def read_warc(request: ReadRequest) -> Iterator[Item]:
    """WARC, WET and (through fastwarc's legacy reader) ARC records, plain or compressed."""
    row = 0
    try:
        with storage.open_read(request.uri) as f:
            for record in ArchiveIterator(f, parse_http=False):
                try:
                    yield _warc_item(record, row, request.max_document_bytes, request.html)
                except (ValueError, UnicodeError, RuntimeError) as e:
                    yield Fault(row, "bad_record", f"{type(e).__name__}: {e}")
                row += 1
    except (*BROKEN_STREAM, RuntimeError, ValueError) as e:
        yield Fault(row, "broken_file", f"the file cannot be read on after {row} records: {e or type(e).__name__}")
