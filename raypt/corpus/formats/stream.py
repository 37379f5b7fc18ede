"""The bytes of a file as its format has them: decompressed, and in UTF-8 where its character set has no bytes to cut
lines at."""

import codecs
import hashlib
import itertools
from collections.abc import Iterator

from raypt.corpus.formats.compression import codec_of, plain, sniff, unpack
from raypt.corpus.formats.raw import BrokenStream, RawFile
from raypt.corpus.records import BROKEN_FILE, Fault, ReadRequest

WIDE = ("utf-16", "utf-32")
"""Character sets whose line feed is not the byte 0x0A: files in them are not cut."""
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe\x00\x00", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def is_wide(encoding: str) -> bool:
    """Whether a character set takes several bytes for a line feed."""
    return codecs.lookup(encoding).name.startswith(WIDE)


class InputStream:
    """A file opened for `request`, as pieces of bytes from `request.start` on.

    Compressed and wide (UTF-16, UTF-32) files start at 0. A byte order mark at the start of the file is taken off; one
    of UTF-16 or UTF-32 says what the file is in, whatever `request.encoding` says. `encoding` is that of the pieces.
    """

    def __init__(self, request: ReadRequest, digest: "hashlib._Hash | None" = None) -> None:
        """`digest` takes the bytes as the file has them, once they are unpacked: with their mark, in their encoding."""
        self._request, self._digest = request, digest
        self._raw = RawFile(request.uri, request.size, request.etag, request.stop)
        self.codec: str | None = None
        self.encoding = request.encoding or "utf-8"
        self.skipped = 0
        """Bytes of the mark that was taken off."""

    def __enter__(self) -> "InputStream":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            if error is None:
                self._raw.check_unchanged()
        finally:
            self._raw.close()

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        """The bytes from `start` on (above 0: of a file that is not compressed).

        Raises:
            BrokenStream: the file cannot be read to its end. UserError: it is not what the manifest says.
        """
        if start:
            self._raw.seek(start)
            yield from plain(self._raw)
            return
        named = codec_of(self._request.uri)
        head = plain(self._raw)
        first = next(head, b"")
        # Web servers and object stores undo a compression that the name still has, and names are given wrongly.
        found = sniff(first)
        self.codec = found if found is not None else None if _looks_plain(first) else named
        if self.codec is not None:
            self._raw.seek(0)
            head = unpack(self._raw, self.codec, self._request.unpack)
            first = next(head, b"")
        while len(first) < len(_BOMS[1][0]) and (more := next(head, b"")):
            first += more
        mark, declared = next(((m, e) for m, e in _BOMS if first.startswith(m)), (b"", self.encoding))
        if mark and (declared != "utf-8" or codecs.lookup(self.encoding).name == "utf-8"):
            self.encoding, self.skipped = declared, len(mark)
        chained = self._hashed(itertools.chain([first], head))
        if is_wide(self.encoding):
            yield from self._in_utf8(chained)
            return
        for i, piece in enumerate(chained):
            yield piece[self.skipped :] if i == 0 else piece

    def _hashed(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if self._digest is not None:
                self._digest.update(piece)
            yield piece

    def _in_utf8(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """UTF-16 or UTF-32 as UTF-8. Lone surrogates stay what they are, so that the one record they are in is a
        fault."""
        decoder = codecs.getincrementaldecoder(self.encoding)("surrogatepass")
        self.encoding = "utf-8"
        try:
            for piece in pieces:
                if text := decoder.decode(piece):
                    yield text.encode("utf-8", "surrogatepass")
            decoder.decode(b"", True)
        except UnicodeDecodeError as e:
            raise BrokenStream(f"not {e.encoding}: {e.reason}", self._raw.unread) from None

    @property
    def unread(self) -> int:
        return self._raw.unread


def _looks_plain(start: bytes) -> bool:
    """Whether bytes are text that no compressed file starts with."""
    head = start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    return head in (b"{", b"[", b"<") or start.startswith(b"WARC/")


def broken(row: int, error: BrokenStream, offset: int | None = None, what: str = "records") -> Fault:
    """The fault that ends a file after `row` records."""
    message = f"the file cannot be read on after {row} {what}: {error}"
    return Fault(row, BROKEN_FILE, message, offset, b"", error.unread)
