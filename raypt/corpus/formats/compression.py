"""Compressed files as streams of bytes: in bounded pieces, and with an error where a stream breaks.

The decompressors of the libraries put out all that they are fed: 128 KB of zstd can be 8 GB. Here a piece of output has
at most about PIECE_BYTES whatever the input, a stream that ends early or goes on with something else is an error that
says how much of the file lies behind it, and what stood before the break has been handed out.
"""

import bz2
import functools
import io
import lzma
import posixpath
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, Protocol

import zstandard

from raypt.corpus.formats.raw import BrokenStream, RawFile
from raypt.corpus.limits import UnpackLimits
from raypt.corpus.paths import plain_path

PIECE_BYTES = 1 << 18
"""Most bytes of a piece: more than a processor's nearest caches hold is slower."""
RATIO_FREE_BYTES = 256 << 20
"""Up to here a file may unpack to any multiple of its size: it takes less than a second."""

SUFFIXES = {
    ".gz": "gzip",
    ".gzip": "gzip",
    ".tgz": "gzip",
    ".bz2": "bzip2",
    ".xz": "xz",
    ".lzma": "xz",
    ".zst": "zstd",
    ".zstd": "zstd",
}
_MAGIC = {b"\x1f\x8b\x08": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\x00": "xz"}
_MAGIC_BYTES = 10


def codec_of(path: str) -> str | None:
    """The compression that a file name's last suffix stands for, in any case; None if it stands for none."""
    return SUFFIXES.get(posixpath.splitext(plain_path(path).lower())[1])


def without_compression(path: str) -> str:
    """A file name without the suffix of its compression; `.tgz` becomes `.tar`."""
    path = plain_path(path)
    if codec_of(path) is None:
        return path
    stem, suffix = posixpath.splitext(path)
    return f"{stem}.tar" if suffix.lower() == ".tgz" else stem


class _Decompressor(Protocol):
    """What bz2 and lzma offer, and _Gunzip."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gunzip:
    """One gzip member. What stands before damaged data in the same bytes of input comes out before the error does."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(31)
        self._tail = b""
        self._broken: zlib.error | None = None
        self.needs_input = True

    @property
    def held(self) -> int:
        """Bytes of input that have not been used."""
        return len(self._tail)

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if self._broken is not None:
            raise self._broken
        data = data or self._tail
        before = self._inflate.copy()
        try:
            out = self._inflate.decompress(data, max_length)
        except zlib.error as e:
            self._broken, self.needs_input = e, False
            out, used = self._before_the_error(before, data, max_length)
            self._tail = data[used:]
            return out
        self._tail = self._inflate.unconsumed_tail
        self.needs_input = not self._tail and len(out) < max_length
        return out

    @staticmethod
    def _before_the_error(inflate: Any, data: bytes, max_length: int) -> tuple[bytes, int]:
        out = b""
        for i in range(len(data)):
            try:
                out += inflate.decompress(data[i : i + 1], max_length - len(out))
            except zlib.error:
                return out, i
            if len(out) >= max_length:
                return out, i + 1
        return out, len(data)


class Unread:
    """Stored bytes behind those whose content has been put out."""

    def __init__(self, raw: RawFile) -> None:
        self._raw, self.bytes = raw, raw.unread

    def set(self, held: int) -> None:
        """`held` bytes have been taken from the file and not been put out."""
        self.bytes = self._raw.unread + held


def _unpack_streams(
    raw: RawFile, unread: Unread, name: str, new: Callable[[], _Decompressor], feed: int, padded: bool
) -> Iterator[bytes]:
    """The streams (gzip: members) of a file one after another; zero bytes may stand between and behind them."""
    stream: _Decompressor | None = None
    first = True
    data = b""
    while True:
        if not data:
            data = raw.read(feed)
            if not data:
                if stream is not None:
                    raise EOFError(f"the {name} stream ends before it is complete")
                return
        if stream is None:
            if not first and padded:
                data = data.lstrip(b"\0")
                unread.set(len(data))
                if not data:
                    continue
            stream, first = new(), False
        fed = len(data)
        while True:
            out, data = stream.decompress(data, PIECE_BYTES), b""
            if out:
                # bz2 and lzma do not say how much of the input at hand they have used: none of it counts as read.
                unread.set(len(stream.unused_data) if stream.eof else getattr(stream, "held", fed))
                yield out
            if stream.eof or stream.needs_input:
                break
        if stream.eof:
            data, stream = stream.unused_data, None
            unread.set(len(data))


_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_BLOCK = 128 << 10


class _Fed:
    """Bytes of a file, looked at before they are taken."""

    def __init__(self, raw: RawFile) -> None:
        self._raw, self._data, self._at = raw, b"", 0

    def has(self, n: int) -> bool:
        """Whether `n` more bytes are there; looks for them."""
        while len(self._data) - self._at < n:
            more = self._raw.read(max(1 << 17, n))
            if not more:
                return False
            self._data, self._at = self._data[self._at :] + more, 0
        return True

    def peek(self, n: int, skip: int = 0) -> bytes:
        return self._data[self._at + skip : self._at + skip + n]

    def take(self, n: int) -> bytes:
        data = self._data[self._at : self._at + n]
        self._at += n
        return data

    @property
    def left(self) -> int:
        return len(self._data) - self._at


def _unpack_zstd(raw: RawFile, unread: Unread, window: int) -> Iterator[bytes]:
    """zstd frames, walked block by block (RFC 8878, 3.1.1): a block has at most 128 KiB of output."""
    fed = _Fed(raw)
    unpacker = zstandard.ZstdDecompressor(max_window_size=window)

    def need(n: int) -> None:
        if not fed.has(n):
            raise EOFError("the zstd stream ends inside a frame")

    while fed.has(1):
        unread.set(fed.left)
        need(4)
        magic = fed.peek(4)
        if magic[1:] == b"\x2a\x4d\x18" and magic[0] & 0xF0 == 0x50:  # a skippable frame
            need(8)
            left = int.from_bytes(fed.peek(4, 4), "little")
            fed.take(8)
            while left:
                need(1)
                left -= len(fed.take(min(left, fed.left)))
            continue
        if magic != _ZSTD_MAGIC:
            raise ValueError("what follows is no zstd frame")
        need(5)
        flags = fed.peek(1, 4)[0]
        single = flags >> 5 & 1
        header = 5 + (not single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
        need(header)
        frame = unpacker.decompressobj()
        todo, produced, last = fed.take(header), 0, False
        while not last:
            need(3)
            block = int.from_bytes(fed.peek(3), "little")
            last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
            if kind == 3 or size > _ZSTD_BLOCK:
                raise ValueError("a zstd block has no valid header")
            stored, expected = 3 + (1 if kind == 1 else size), _ZSTD_BLOCK if kind == 2 else size
            # Blocks go through one by one, small ones together: a broken block takes nothing before it along.
            if produced + expected > _ZSTD_BLOCK and produced:
                piece, todo, produced = frame.decompress(todo), b"", 0
                unread.set(fed.left)
                yield piece
            need(stored)
            todo, produced = todo + fed.take(stored), produced + expected
        if flags >> 2 & 1:
            need(4)
            todo += fed.take(4)
        piece = frame.decompress(todo)
        if not frame.eof:
            raise ValueError("a zstd frame does not end with its last block")
        unread.set(fed.left)
        yield piece


_DAMAGE = (EOFError, OSError, ValueError, MemoryError, zlib.error, lzma.LZMAError, zstandard.ZstdError)


def unpack(raw: RawFile, codec: str, limits: UnpackLimits, unread: Unread | None = None) -> Iterator[bytes]:
    """The decompressed bytes of `raw` from its position on, in pieces; `unread` is kept up with them.

    Raises:
        BrokenStream: the stream is damaged or cut, something else follows it, or it unpacks to more than `limits`.
    """
    unread = unread or Unread(raw)
    if codec == "zstd":
        pieces = _unpack_zstd(raw, unread, limits.max_window_bytes)
    elif codec == "gzip":
        pieces = _unpack_streams(raw, unread, codec, _Gunzip, 1 << 16, padded=True)
    elif codec == "bzip2":
        pieces = _unpack_streams(raw, unread, codec, bz2.BZ2Decompressor, 1 << 13, padded=False)
    else:
        # A dictionary of the window's size and what liblzma needs beside it.
        memory = limits.max_window_bytes + (64 << 20)
        xz = functools.partial(lzma.LZMADecompressor, memlimit=memory)
        pieces = _unpack_streams(raw, unread, codec, xz, 1 << 12, padded=True)
    produced, start = 0, raw.position
    try:
        for piece in pieces:
            produced += len(piece)
            check_limits(produced, raw.position - start, limits, unread.bytes)
            if piece:
                yield piece
    except _DAMAGE as e:
        what = str(e) or type(e).__name__
        if "memory" in what.lower():
            what += "; raise corpus.max_window_bytes if the file is to be trusted"
        raise BrokenStream(f"damaged {codec} data: {what}", unread.bytes) from None


def check_limits(produced: int, consumed: int, limits: UnpackLimits, unread: int) -> None:
    most, ratio = limits.max_unpacked_bytes, limits.max_unpack_ratio
    if most is not None and produced > most:
        raise BrokenStream(f"the file unpacks to more than corpus.max_unpacked_bytes={most}", unread)
    if ratio is not None and produced > RATIO_FREE_BYTES and produced > ratio * consumed:
        message = f"{consumed} bytes unpack to {produced}, more than corpus.max_unpack_ratio={ratio:g} times as many"
        raise BrokenStream(message, unread)


def sniff(start: bytes) -> str | None:
    """The compression of a file that starts with these bytes; None if none is known by them."""
    if start[:3] == b"BZh" and start[4:10] == b"1AY&SY":
        return "bzip2"
    return next((codec for magic, codec in _MAGIC.items() if start.startswith(magic)), None)


class _Pieces(io.RawIOBase):
    """A file object over pieces of bytes."""

    def __init__(self, raw: RawFile, pieces: Iterator[bytes]) -> None:
        self._raw, self._pieces, self._ready = raw, pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._ready:
            self._ready = memoryview(next(self._pieces, b""))
        n = min(len(buffer), len(self._ready))
        buffer[:n], self._ready = self._ready[:n], self._ready[n:]
        return n

    def close(self) -> None:
        self._raw.close()
        super().close()


def plain(raw: RawFile) -> Iterator[bytes]:
    """The bytes of a file that is not compressed, in pieces."""
    while piece := raw.read(PIECE_BYTES):
        yield piece


def open_decompressed(uri: str, limits: UnpackLimits | None = None) -> IO[bytes]:
    """The bytes of a file behind the compression that its name says, as a file to read; raises BrokenStream."""
    raw, codec = RawFile(uri), codec_of(uri)
    pieces = plain(raw) if codec is None else unpack(raw, codec, limits or UnpackLimits())
    return io.BufferedReader(_Pieces(raw, pieces), PIECE_BYTES)


BROKEN_STREAM = (BrokenStream, *_DAMAGE)
"""What reading a broken file through a library's own decompression raises."""
