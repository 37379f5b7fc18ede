"""Making archives, whole and damaged, and reading them as a run does."""

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from raypt.corpus.formats.warc import read_warc
from raypt.corpus.records import Fault, Item, ReadRequest, Record, Skip


def record(
    kind: str, n: int, block: bytes, content_type: str, length: int | None = None, newline: str = "\r\n", more: str = ""
) -> bytes:
    """A WARC record; `length` overrides its Content-Length, `more` is a further header line."""
    lines = [
        "WARC/1.0",
        f"WARC-Type: {kind}",
        f"WARC-Record-ID: <urn:uuid:00000000-0000-4000-8000-{n:012d}>",
        "WARC-Date: 2026-01-01T00:00:00Z",
        f"WARC-Target-URI: http://example.org/{n}",
        f"Content-Type: {content_type}",
        *([more] if more else []),
        f"Content-Length: {len(block) if length is None else length}",
    ]
    return newline.join(lines).encode() + newline.encode() * 2 + block + newline.encode() * 2


def text_of(n: int) -> str:
    return f"Document {n}: the river rose {n + 2} times, 河水涨了 {n} 次。" * (1 + n % 4)


def wet(n: int, **options: Any) -> bytes:
    """A converted text."""
    return record("conversion", n, text_of(n).encode(), "text/plain", **options)


def response(n: int, body: bytes, *headers: str, status: str = "200 OK", **options: Any) -> bytes:
    """An HTTP response with these header lines."""
    newline = options.get("newline", "\r\n")
    head = newline.join([f"HTTP/1.1 {status}", *headers]) + newline * 2
    return record("response", n, head.encode("latin-1") + body, "application/http; msgtype=response", **options)


def gz(records: Iterable[bytes]) -> bytes:
    """Each record a gzip member."""
    return b"".join(gzip.compress(r, mtime=0) for r in records)


def read(folder: Path, data: bytes, name: str = "x.warc", **request: Any) -> list[Item]:
    """What the reader yields for an archive."""
    path = folder / name
    path.write_bytes(data)
    return list(read_warc(ReadRequest(str(path), size=len(data), **request)))


def texts(items: Iterable[Item]) -> list[str]:
    return [item.fields["text"] for item in items if isinstance(item, Record)]


def faults(items: Iterable[Item]) -> list[Fault]:
    return [item for item in items if isinstance(item, Fault)]


def skips(items: Iterable[Item]) -> list[str]:
    return [item.kind for item in items if isinstance(item, Skip)]
