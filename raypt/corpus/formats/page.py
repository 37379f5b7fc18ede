"""HTML files: a file is a document, its text without markup."""

from collections.abc import Iterator

from raypt.corpus.formats.html import DIGEST, html_to_text, new_digest, shown_digest, wants_digest
from raypt.corpus.formats.text import read_whole
from raypt.corpus.paths import file_name
from raypt.corpus.records import EXCERPT_BYTES, Fault, Item, ReadRequest, Record


def read_html_file(request: ReadRequest) -> Iterator[Item]:
    """A whole page as one document; its character set is that of its byte order mark, the source's, or its own."""
    digest = new_digest() if wants_digest(request) else None
    read = read_whole(request, digest)
    if isinstance(read, Fault):
        yield read
    elif read is not None:
        data, encoding, marked = read
        declared = encoding if marked else request.encoding
        try:
            text = html_to_text(data, declared, request.html)
        except (ValueError, UnicodeError, RuntimeError) as e:
            yield Fault(0, "bad_record", f"{type(e).__name__}: {e}", 0, data[:EXCERPT_BYTES], len(data))
        else:
            hashed = {} if digest is None else {DIGEST: shown_digest(digest)}
            yield Record(0, {"text": text, "id": file_name(request.uri), **hashed})
