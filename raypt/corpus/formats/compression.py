"""Compressed files as streams of bytes."""

import bz2
import gzip
import io
import lzma
import zlib
from typing import IO, Any, cast

import zstandard

from raypt import storage

BROKEN_STREAM = (EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError)


class _ZstdFile(io.RawIOBase):
    """Decompressed bytes of zstd frames; unlike zstandard's own stream reader it raises EOFError on a truncated one."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._inside_frame = False
        self._compressed = self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            data = self._compressed or self._raw.read(1 << 17)
            if not data:
                if self._inside_frame:
                    raise EOFError("the zstd stream ends inside a frame")
                return 0
            self._ready = self._frame.decompress(data)
            self._compressed, self._inside_frame = self._frame.unused_data, not self._frame.eof
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
        n = min(len(buffer), len(self._ready))
        buffer[:n], self._ready = self._ready[:n], self._ready[n:]
        return n


def open_decompressed(uri: str) -> IO[bytes]:
    """The bytes of a file behind its .gz, .zst, .bz2 or .xz."""
    raw = storage.open_read(uri)
    # These buffer little: a bigger buffer would lose what stands before the break of a broken file.
    if uri.endswith(".gz"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    if uri.endswith(".bz2"):
        return bz2.BZ2File(raw)
    if uri.endswith(".xz"):
        return lzma.LZMAFile(raw)
    if uri.endswith(".zst"):
        return io.BufferedReader(_ZstdFile(raw))
    return raw
