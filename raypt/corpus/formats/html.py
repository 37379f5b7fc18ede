"""HTML pages to text, and the hash by which a page is found again."""

import base64
import hashlib

from raypt.corpus.config import HtmlConfig
from raypt.corpus.formats.charset import decode
from raypt.corpus.html.engines import text_of
from raypt.corpus.html.tame import tame
from raypt.corpus.records import ReadRequest

DIGEST = "html_digest"
"""Field with the hash of a page as it came, before anything became of it: what WARC-Payload-Digest and Common Crawl's
index have, `sha1:` and base 32. A source asks for it with `columns`."""


def html_to_text(data: bytes, declared: str | None, config: HtmlConfig) -> str:
    """Text of an HTML page. `declared`: the charset of its HTTP header, if it has one."""
    return text_of(decode(tame(data), declared), config)


def wants_digest(request: ReadRequest) -> bool:
    """Whether the hash of pages is looked at."""
    return request.names is None or DIGEST in request.names


def digest_of(data: bytes) -> str:
    """The hash of a page."""
    return shown_digest(new_digest(data))


def new_digest(data: bytes = b"") -> "hashlib._Hash":
    """The hash of the bytes so far, to be updated."""
    return hashlib.sha1(data, usedforsecurity=False)


def shown_digest(found: "hashlib._Hash") -> str:
    """As WARC files have it."""
    return f"sha1:{base64.b32encode(found.digest()).decode()}"
