"""HTTP messages in archives: header fields, and bodies as they were before they were sent.

RFC 9112, 7.1 (chunked) and RFC 9110, 8.4 (gzip, deflate, br, zstd). Archives hold bodies as sent, and some crawlers
store them undone under the header fields that were true once: a body that is not what its fields say is taken as it is.
"""

import io
import re
import zlib
from dataclasses import dataclass
from typing import Any

import zstandard
from fastwarc.stream_io import BrotliReader

_HEADER_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)? +(\d{3})(?!\d)|HTTP/\d(?:\.\d)?|ICY +(\d{3})")
_FIELD = re.compile(r"^([!-9;-~]+)[ \t]*:[ \t]*(.*?)[ \t]*\r?$", re.M)
_FOLDED = re.compile(r"\r?\n[ \t]+")
_CHUNK = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,12})[ \t]*(?:;[^\r\n]*)?\r?\n")
_CHARSET = re.compile(r";\s*charset\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s;]+))", re.I)
_MAX_CODINGS = 4
_WINDOW = 8 << 20  # of zstd, RFC 9659


class BadBody(Exception):
    """A body that cannot be undone."""


class LongBody(Exception):
    """A body that undone is longer than the limit."""


@dataclass(frozen=True, slots=True)
class HttpMessage:
    """A response: `fields` with names in lower case (several of a name joined by commas), `body` as it is stored."""

    status: int | None
    fields: dict[str, str]
    body: bytes


def media_type(content_type: str) -> str:
    """`Text/HTML; charset=x` -> `text/html`."""
    return content_type.partition(";")[0].partition(",")[0].strip().lower()


def charset(content_type: str) -> str | None:
    """The charset parameter of a Content-Type."""
    found = _CHARSET.search(content_type)
    return (found[1] or found[2] or found[3]) if found else None


def parse_http(block: bytes) -> HttpMessage | None:
    """The message that a block begins with; None if it is no HTTP response."""
    status = _STATUS.match(block)
    if status is None:
        return None
    end = _HEADER_END.search(block)
    header = block[: end.start()] if end else block
    fields: dict[str, str] = {}
    for name, value in _FIELD.findall(_FOLDED.sub(" ", header.decode("latin-1"))):
        key = name.lower()
        fields[key] = f"{fields[key]},{value}" if key in fields and key != "content-type" else value
    code = status[1] or status[2]
    return HttpMessage(int(code) if code else None, fields, block[end.end() :] if end else b"")


def undo(message: HttpMessage, limit: int) -> bytes:
    """The body without its transfer and content codings.

    Raises:
        LongBody: it has more than `limit` bytes. BadBody: it is damaged, or coded in a way that is not known.
    """
    body = message.body
    if not ("transfer-encoding" in message.fields or "content-encoding" in message.fields or len(body) > limit):
        return body
    if "chunked" in _codings(message.fields.get("transfer-encoding", "")):
        body = unchunked(body)
    codings = [
        c for c in _codings(message.fields.get("content-encoding", "")) if c not in ("identity", "utf-8", "none")
    ]
    if len(codings) > _MAX_CODINGS:
        raise BadBody(f"{len(codings)} content codings")
    for coding in reversed(codings):
        body = _decoded(body, coding, limit)
    if len(body) > limit:
        raise LongBody(f"the page has more than {limit} bytes")
    return body


def _codings(field: str) -> list[str]:
    return [c.strip().lower().removeprefix("x-") for c in field.split(",") if c.strip()]


def unchunked(body: bytes) -> bytes:
    """The body of chunks; as it is if it does not begin with one, up to the break if a chunk is cut."""
    out: list[bytes] = []
    at = 0
    while found := _CHUNK.match(body, at):
        size = int(found[1], 16)
        end = found.end() + size
        if not out and (found.end() == len(body) or (end < len(body) and body[end : end + 1] not in b"\r\n")):
            return body if size else b""
        if size == 0:
            return b"".join(out)
        out.append(body[found.end() : end])
        at = end
        while at < min(len(body), end + 2) and body[at] in b"\r\n":
            at += 1
    return b"".join(out) if out else body


def _decoded(body: bytes, coding: str, limit: int) -> bytes:
    if coding == "gzip":
        return _inflated(body, 31, limit) if body.startswith(b"\x1f\x8b") else body
    if coding == "deflate":
        if body.startswith(b"\x1f\x8b"):
            return _inflated(body, 31, limit)
        # zlib's format, or the bare one that Microsoft's servers sent.
        zlib_header = len(body) >= 2 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
        try:
            return _inflated(body, 15 if zlib_header else -15, limit)
        except BadBody:
            return body if _is_text(body) else _raise(coding)
    if coding == "br":
        return body if len(body) >= 64 and _is_text(body) else _read(BrotliReader(io.BytesIO(body)), coding, limit)
    if coding == "zstd":
        if not body.startswith(b"\x28\xb5\x2f\xfd"):
            return body
        unpacker = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        return _read(unpacker.stream_reader(io.BytesIO(body), read_across_frames=True), coding, limit)
    if _is_text(body):
        return body
    return _raise(coding)


def _raise(coding: str) -> bytes:
    known = coding if coding in ("deflate", "br", "zstd", "compress", "lzma", "exi", "dcb", "dcz") else "another"
    raise BadBody(f"a content coding that cannot be undone: {known}")


def _is_text(body: bytes) -> bool:
    """Whether a body looks like text as it is: coded ones have control characters in their first bytes."""
    head = body[:512]
    return not any(c < 32 and c not in b"\t\n\r\f\x1b" for c in head) and head.lstrip()[:1] != b""


def _inflated(body: bytes, wbits: int, limit: int) -> bytes:
    """All members of a gzip body, the one stream of another; of a cut one what is there."""
    out: list[bytes] = []
    produced = 0
    while body:
        inflate = zlib.decompressobj(wbits)
        try:
            data = inflate.decompress(body, limit + 1 - produced)
        except zlib.error as e:
            if not out:
                raise BadBody(f"damaged {'gzip' if wbits == 31 else 'deflate'} data: {e}") from None
            break  # what follows a member is no other
        out.append(data)
        produced += len(data)
        if produced > limit:
            raise LongBody(f"the page has more than {limit} bytes")
        if not produced and not inflate.eof:
            raise BadBody(f"{'gzip' if wbits == 31 else 'deflate'} data that end before their first byte")
        body = inflate.unused_data if wbits == 31 else b""
    return b"".join(out)


def _read(reader: Any, coding: str, limit: int) -> bytes:
    out: list[bytes] = []
    produced = 0
    try:
        while data := reader.read(min(1 << 18, limit + 1 - produced)):
            out.append(data)
            produced += len(data)
            if produced > limit:
                raise LongBody(f"the page has more than {limit} bytes")
    except (OSError, ValueError, RuntimeError, EOFError, zstandard.ZstdError) as e:
        if not out:
            raise BadBody(f"damaged {coding} data: {e}") from None
    return b"".join(out)
