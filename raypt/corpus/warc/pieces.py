"""The bytes of an archive behind its compression, and where some of them cannot be had.

Archives are compressed record by record, so a damaged record need not cost the ones behind it: in a gzip file reading
goes on at the next member that begins a record.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, cast

import zstandard
from fastwarc.stream_io import Lz4Reader

from raypt.corpus.formats.compression import PIECE_BYTES, Unread, check_limits, codec_of, plain, sniff, unpack
from raypt.corpus.formats.raw import BrokenStream, RawFile
from raypt.corpus.limits import UnpackLimits

_FEED = 1 << 16
_MEMBER = re.compile(rb"\x1f\x8b\x08[\x00-\x1f]")
_RECORD = re.compile(rb"\s*(?:WARC/|[a-z]{3,10}:\S+ )")
_LZ4 = (b"\x04\x22\x4d\x18", b"\x02\x21\x4c\x18")
_ZSTD_DICTIONARY = b"\x5d\x2a\x4d\x18"
_MAX_DICTIONARY = 64 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes, and the position in the file up to which they were stored."""

    data: bytes
    stored: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Here bytes are missing; reading goes on at the position `stored`, or not at all (`last`)."""

    message: str
    stored: int
    last: bool


def pieces(raw: RawFile, limits: UnpackLimits) -> Iterator[Piece | Gap]:
    """The content of an archive, from its start."""
    first = raw.read(_FEED)
    raw.seek(0)
    codec = sniff(first)
    if first.startswith(_LZ4):
        yield from _until_broken(_lz4(raw), raw)
    elif first.startswith(_ZSTD_DICTIONARY):
        yield from _until_broken(_zstd_with_dictionary(raw, limits), raw)
    elif codec == "gzip":
        yield from _members(raw, limits)
    elif codec is not None:
        unread = Unread(raw)
        yield from _until_broken(unpack(raw, codec, limits, unread), raw, unread)
    elif first and codec_of(raw.uri) == "gzip" and not _RECORD.match(first):
        yield from _resynchronised(raw, 0, "no gzip member begins here")
        yield from _members(raw, limits)
    else:
        yield from _until_broken(plain(raw), raw)


def is_plain(raw: RawFile) -> bool:
    """Whether an archive is stored as it is, so that positions in it are positions in the file."""
    first = raw.read(16)
    raw.seek(0)
    return sniff(first) is None and not first.startswith((*_LZ4, _ZSTD_DICTIONARY))


def _until_broken(data: Iterator[bytes], raw: RawFile, unread: Unread | None = None) -> Iterator[Piece | Gap]:
    try:
        for piece in data:
            ahead = 0 if unread is None else unread.bytes - raw.unread
            yield Piece(piece, raw.position - ahead)
    except BrokenStream as e:
        yield Gap(str(e), raw.position + raw.unread, last=True)


def _members(raw: RawFile, limits: UnpackLimits) -> Iterator[Piece | Gap]:
    """gzip members one after another, zero bytes between them."""
    data = b""
    produced = 0
    while True:
        data = data.lstrip(b"\0")
        if not data:
            data = raw.read(_FEED)
            if not data:
                return
            continue
        start = raw.position - len(data)
        inflate = zlib.decompressobj(31)
        try:
            while not inflate.eof:
                out = inflate.decompress(data, PIECE_BYTES)
                data = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
                produced += len(out)
                check_limits(produced, raw.position, limits, raw.unread)
                if out:
                    yield Piece(out, raw.position - len(data))
                if not inflate.eof and not data and len(out) < PIECE_BYTES:
                    data = raw.read(_FEED)
                    if not data:
                        yield Gap("the gzip stream ends before it is complete", raw.position, last=True)
                        return
        except zlib.error as e:
            yield from _resynchronised(raw, start + 1, f"damaged gzip data: {e}")
            data = raw.read(_FEED)
        except BrokenStream as e:
            yield Gap(str(e), raw.position + raw.unread, last=True)
            return


def _resynchronised(raw: RawFile, start: int, message: str) -> Iterator[Piece | Gap]:
    """A gap up to the next member that begins a record, where the file then stands; without one, to the end."""
    raw.seek(start)
    window = b""
    while True:
        more = raw.read(_FEED)
        window += more
        at = 0
        while found := _MEMBER.search(window, at):
            if len(window) - found.start() < 4096 and more:
                break
            if _begins_record(window[found.start() :]):
                position = raw.position - len(window) + found.start()
                raw.seek(position)
                yield Gap(message, position, last=False)
                return
            at = found.start() + 1
        if not more:
            yield Gap(message, raw.position, last=True)
            return
        window = window[found.start() if found else max(0, len(window) - 3) :]


def _begins_record(data: bytes) -> bool:
    try:
        return _RECORD.match(zlib.decompressobj(31).decompress(data[:4096], 256)) is not None
    except zlib.error:
        return False


class _AsFile:
    """What fastwarc and zstandard ask of a file."""

    def __init__(self, raw: RawFile) -> None:
        self._raw = raw

    def read(self, n: int = -1) -> bytes:
        return self._raw.read(n if n >= 0 else _FEED)

    def tell(self) -> int:
        return self._raw.position

    def seek(self, position: int, whence: int = 0) -> int:
        assert whence == 0
        self._raw.seek(position)
        return position

    def close(self) -> None:
        pass


def _lz4(raw: RawFile) -> Iterator[bytes]:
    reader = Lz4Reader(_AsFile(raw))
    try:
        while data := reader.read(_FEED):
            yield data
    except (OSError, ValueError, RuntimeError) as e:
        raise BrokenStream(f"damaged lz4 data: {e}", raw.unread) from None


def _zstd_with_dictionary(raw: RawFile, limits: UnpackLimits) -> Iterator[bytes]:
    """WARC files compressed with a dictionary that stands in their first, skippable frame (IIPC's WARC zstd draft)."""
    size = int.from_bytes(raw.read(8)[4:], "little")
    if size > _MAX_DICTIONARY:
        raise BrokenStream(f"a zstd dictionary of {size} bytes", raw.unread)
    dictionary = b""
    while len(dictionary) < size:
        more = raw.read(min(_FEED, size - len(dictionary)))
        if not more:
            raise BrokenStream("the file ends within its zstd dictionary", 0)
        dictionary += more
    try:
        if dictionary.startswith(b"\x28\xb5\x2f\xfd"):
            dictionary = zstandard.ZstdDecompressor().decompress(dictionary, max_output_size=_MAX_DICTIONARY)
        unpacker = zstandard.ZstdDecompressor(
            dict_data=zstandard.ZstdCompressionDict(dictionary), max_window_size=limits.max_window_bytes
        )
        with unpacker.stream_reader(cast(IO[bytes], _AsFile(raw)), read_across_frames=True, closefd=False) as reader:
            produced = 0
            while data := reader.read(_FEED):
                produced += len(data)
                check_limits(produced, raw.position, limits, raw.unread)
                yield data
    except zstandard.ZstdError as e:
        raise BrokenStream(f"damaged zstd data: {e}", raw.unread) from None
