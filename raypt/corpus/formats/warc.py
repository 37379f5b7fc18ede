"""WARC, WET and ARC files: pages and texts in them are documents, everything else is counted by what it is."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from raypt.corpus.formats.charset import decode
from raypt.corpus.formats.html import DIGEST, digest_of, wants_digest
from raypt.corpus.formats.lines import untouched
from raypt.corpus.formats.pages import BATCH_BYTES, BATCH_PAGES, Failure, Page, texts_of
from raypt.corpus.formats.raw import RawFile
from raypt.corpus.records import EXCERPT_BYTES, Fault, Item, ReadRequest, Record, Skip
from raypt.corpus.warc import http, types
from raypt.corpus.warc.framing import BAD_RECORD, MAX_HEADER_BYTES, ArchiveRecord, Unread, records
from raypt.corpus.warc.pieces import is_plain, pieces

_NOT_CONTENT = ("request", "metadata", "warcinfo", "revisit", "continuation")
_CONTENT = ("response", "conversion", "resource")
TOO_LONG = "too_long"
_WAITING_ITEMS = 4096
_NO_LIMIT = 1 << 30
"""Bytes of a text where `max_document_bytes` is null."""


@dataclass(frozen=True, slots=True)
class _WaitingPage:
    """A page that is still to become text."""

    row: int
    position: int
    page: Page
    fields: dict[str, Any]


def read_warc(request: ReadRequest) -> Iterator[Item]:
    """The records of an archive in order, each as a document, a fault, or what it is instead."""
    waiting: list[Item | _WaitingPage] = []
    pages = held = 0
    with RawFile(request.uri, request.size, request.etag) as raw:
        for item in _items(raw, request):
            waiting.append(item)
            if isinstance(item, _WaitingPage):
                pages += 1
                held += len(item.page.data)
            elif isinstance(item, Record):
                held += len(item.fields["text"])
            if pages >= BATCH_PAGES or held >= BATCH_BYTES or len(waiting) >= _WAITING_ITEMS or not pages:
                yield from _converted(waiting, request)
                waiting, pages, held = [], 0, 0
        yield from _converted(waiting, request)
        raw.check_unchanged()


def _converted(waiting: list[Item | _WaitingPage], request: ReadRequest) -> Iterator[Item]:
    pages = [item.page for item in waiting if isinstance(item, _WaitingPage)]
    # All at once: a child that is left in the middle of its answers is ended.
    texts = iter(list(texts_of(pages, request.html, request.max_record_seconds)))
    for item in waiting:
        if not isinstance(item, _WaitingPage):
            yield item
            continue
        text = next(texts)
        if isinstance(text, Failure):
            start = item.page.data[:EXCERPT_BYTES]
            yield Fault(item.row, text.kind, text.message, item.position, start, len(item.page.data))
        else:
            yield Record(item.row, {"text": text, **item.fields})


def _items(raw: RawFile, request: ReadRequest) -> Iterator[Item | _WaitingPage]:
    reading = _Reading(request)
    archive = records(pieces(raw, request.unpack), is_plain(raw), reading.longest + MAX_HEADER_BYTES)
    for row, record in enumerate(archive):
        if isinstance(record, Unread):
            yield Fault(row, record.kind, record.message, record.position, record.start, record.nbytes)
        elif row in request.skip:
            yield untouched(row, record.position, record.length)
        else:
            yield reading.item(record, row)


class _Reading:
    """What records become, as a request asks for it."""

    def __init__(self, request: ReadRequest) -> None:
        self._max_page_bytes = request.html.max_page_bytes
        self.longest = max(request.max_document_bytes or _NO_LIMIT, self._max_page_bytes)
        """Bytes of the longest page or text that can be a document."""
        self._with_digest = wants_digest(request)

    def item(self, record: ArchiveRecord, row: int) -> Item | _WaitingPage:
        headers = record.headers
        kind = headers.get("warc-type", "").lower()
        if kind not in _CONTENT:
            return Skip(row, f"warc_{kind}" if kind in _NOT_CONTENT else "warc_unknown_record", record.length)
        if "warc-segment-number" in headers:
            return _fault(record, row, BAD_RECORD, "the record is a part of a page, in segments")
        content_type = headers.get("content-type", "")
        if kind != "response":
            return self._content(record, http.HttpMessage(None, {"content-type": content_type}, record.block), row)
        message = None if http.media_type(content_type) == "text/dns" else http.parse_http(record.block)
        if message is None:
            return Skip(row, "warc_not_http", record.length)
        if message.status not in (200, None):
            return Skip(row, "warc_http_status", record.length)
        return self._content(record, message, row)

    def _content(self, record: ArchiveRecord, message: http.HttpMessage, row: int) -> Item | _WaitingPage:
        content_type = message.fields.get("content-type", "")
        media_type, charset = http.media_type(content_type), http.charset(content_type)
        # What an archive has converted to text is text without saying so; what else has no type is looked at.
        if not media_type and record.headers["warc-type"].lower() == "conversion":
            media_type = "text/plain"
        if not types.may_be_read(media_type):
            return Skip(row, types.type_of(media_type, b""), record.length)
        if len(record.block) < record.length:
            return _fault(record, row, TOO_LONG, f"the record has {record.length} bytes")
        try:
            body = http.undo(message, self.longest)
        except http.LongBody as e:
            return _fault(record, row, TOO_LONG, str(e))
        except http.BadBody as e:
            return _fault(record, row, BAD_RECORD, str(e))
        what = types.type_of(media_type, body)
        if what not in (types.HTML, types.TEXT):
            return Skip(row, what, record.length)
        fields = self._fields(record, message)
        if what == types.TEXT:
            return Record(row, {"text": decode(body, charset, page=False), **fields})
        if len(body) > self._max_page_bytes:
            message_ = f"the page has {len(body)} bytes, more than corpus.html.max_page_bytes={self._max_page_bytes}"
            return _fault(record, row, TOO_LONG, message_)
        return _WaitingPage(row, record.position, Page(body, charset), fields)

    def _fields(self, record: ArchiveRecord, message: http.HttpMessage) -> dict[str, Any]:
        headers = record.headers
        fields: dict[str, Any] = {
            "id": headers.get("warc-record-id"),
            "url": _bare(headers.get("warc-target-uri")),
            "timestamp": headers.get("warc-date"),
            "truncated": headers.get("warc-truncated"),
        }
        if self._with_digest:
            fields[DIGEST] = headers.get("warc-payload-digest") or digest_of(message.body)
        return fields


def _fault(record: ArchiveRecord, row: int, kind: str, message: str) -> Fault:
    return Fault(row, kind, message, record.position, record.block[:EXCERPT_BYTES], record.length)


def _bare(uri: str | None) -> str | None:
    """An address without the angle brackets in which some tools put it (WARC 1.0's grammar had them)."""
    return uri[1:-1] if uri is not None and uri.startswith("<") and uri.endswith(">") else uri
