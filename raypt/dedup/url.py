"""Addresses of pages in one form, and the dates of their versions."""

import datetime
import re
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt.errors import UserError

_WWW = re.compile(r"www\d{0,3}\.(?=.+\.)")
_SESSION = re.compile(r";jsessionid=[^/?#]*", re.IGNORECASE)
_ESCAPED = re.compile(r"%([0-9A-Fa-f]{2})")
_FORBIDDEN = re.compile(r"[^!-~]")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_LEAST = ("01", "01", "00", "00", "00")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
NO_DATE = -(2**62)
"""The date of a document without one."""


def _escape(text: str) -> str:
    """Percent-encoding in one form (RFC 3986, 6.2.2): unreserved characters as they are, hexadecimal digits in
    capitals, what may not stand in an address as its UTF-8."""

    def one(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if character in _UNRESERVED else match[0].upper()

    if "%" in text:
        text = _ESCAPED.sub(one, text)
    return _FORBIDDEN.sub(lambda m: "".join(f"%{b:02X}" for b in m[0].encode("utf-8", "replace")), text)


def _host(parts: SplitResult) -> str | None:
    host = (parts.hostname or "").rstrip(".")
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            return None
    if not host:
        return None
    port = parts.port
    host = _WWW.sub("", host, count=1) if host.startswith("www") else host
    return host if port in (None, 80, 443) else f"{host}:{port}"


def _path(path: str) -> str:
    """Without dot segments (RFC 3986, 5.2.4), session and slash at its end."""
    path = _escape(_SESSION.sub("", path) if ";" in path else path)
    if "/." in path:
        kept: list[str] = []
        for segment in path.split("/"):
            if segment == "..":
                kept = kept[:-1] or [""]
            elif segment != ".":
                kept.append(segment)
        path = "/".join(kept)
    return path.rstrip("/")


class Tracking:
    """Names of query parameters that do not count."""

    def __init__(self, patterns: Sequence[str]) -> None:
        lowered = [p.lower() for p in patterns]
        self._names = {p for p in lowered if not p.endswith("*")}
        self._prefixes = tuple(p[:-1] for p in lowered if p.endswith("*"))

    def __contains__(self, name: str) -> bool:
        lowered = name.lower()
        return lowered in self._names or lowered.startswith(self._prefixes)


def normalise_url(url: str, tracking: Tracking) -> str | None:
    """The address of a page in the one form that all spellings of it share; None for what is no address of a page.

    http and https, `www.`, the ports 80 and 443, user names, the slash at the end, the order of the query and tracking
    parameters do not count, nor does the fragment unless it is a path of its own (`#!`).
    """
    try:
        parts = urlsplit(url.strip())
        if parts.scheme not in ("http", "https") or (host := _host(parts)) is None:
            return None
    except ValueError:
        return None
    query = ""
    if parts.query:
        pairs = sorted(_escape(p) for p in parts.query.split("&") if p and p.split("=", 1)[0] not in tracking)
        query = "?" + "&".join(pairs) if pairs else ""
    page = "#" + _escape(parts.fragment) if parts.fragment.startswith("!") else ""
    return host + _path(parts.path) + query + page


def normalise_urls(urls: pa.Array | pa.ChunkedArray, tracking: Sequence[str]) -> pa.Array:
    """`normalise_url` of each, as large_string; null for null."""
    table = Tracking(tracking)
    return pa.array([None if u is None else normalise_url(u, table) for u in urls.to_pylist()], pa.large_string())


def dates(column: pa.Array | pa.ChunkedArray, where: str) -> np.ndarray:
    """int64[n]: when each version is of, comparable within a column; NO_DATE where there is none or it cannot be read.

    Timestamps and dates count in microseconds, numbers as they are. Strings are ISO 8601, or digits from the year on as
    Common Crawl has them; those without a time zone are UTC. UserError, naming `where`, for columns of another type.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    kind = array.type
    if pa.types.is_null(kind):
        return np.full(len(array), NO_DATE)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        array = array.cast(pa.timestamp("us", kind.tz if pa.types.is_timestamp(kind) else None)).cast(pa.int64())
    elif pa.types.is_floating(kind):
        array = pc.round(array).cast(pa.int64(), safe=False)
    elif pa.types.is_integer(kind):
        array = array.cast(pa.int64())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.array([NO_DATE if v is None else _instant(v) for v in array.to_pylist()], np.int64)
    else:
        raise UserError(f"{where}: a column of type {kind} has no dates; timestamps, numbers and ISO 8601 are read")
    return np.asarray(array.fill_null(NO_DATE).to_numpy(zero_copy_only=False))


def _instant(value: str) -> int:
    """Microseconds since 1970 of a string; digits that begin with no year are seconds since then."""
    text = value.strip()
    if text.isascii() and text.isdigit() and 4 <= len(text) <= 14:
        if not "1900" <= text[:4] <= "2100":
            return int(text) * 10**6
        month, day, *time = (text[i : i + 2] or least for i, least in zip(range(4, 14, 2), _LEAST, strict=True))
        text = f"{text[:4]}-{month}-{day}T{':'.join(time)}"
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        return NO_DATE
    found = found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)
    return (found - _EPOCH) // datetime.timedelta(microseconds=1)
