"""The stored bytes of an input file, checked against what the manifest says of it."""

import os
import time
from typing import IO, Any, cast

import fsspec
import xxhash
from fsspec.implementations.local import LocalFileSystem

from raypt import storage
from raypt.errors import UserError
from raypt.outside import redact
from raypt.retries import asked

REMOTE_BYTES, WEB_BYTES = 32 << 20, 8 << 20
"""A request to an object store brings this much, half a large shard, and one to a web server, which may be slow: 30 ms
of waiting cost little beside it."""
_ATTEMPTS = 5
_HASHED = "xxh3:"
"""What the ETag of files begins with that are known by their content: those inside the run directory, and those of web
servers that say nothing of them."""
_ETAG_KEYS = (
    *("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified"),
    # Of web servers, as fsspec hands their headers on.
    *("Content-MD5", "Digest", "Last-Modified"),
)


class BrokenStream(Exception):
    """The bytes of a file end, or make no sense, before the file does; `unread` stored bytes lie behind the break."""

    def __init__(self, message: str, unread: int = 0) -> None:
        super().__init__(message)
        self.unread = unread

    def __reduce__(self) -> tuple[type, tuple[str, int]]:
        return type(self), (str(self), self.unread)


def etag_of(info: dict[str, Any]) -> str:
    """What a file system says of a file that changes when its content does: ETag, hash or time of change; or ""."""
    for key in _ETAG_KEYS:
        if info.get(key) is not None:
            return f"{key.lower()}:{info[key]}"
    return ""


def known_by_content(uri: str, etag: str) -> bool:
    """Whether a file must be read to tell whether it is still the same: its web server says neither ETag nor time."""
    return not etag and uri.startswith(("http://", "https://"))


def hashed(etag: str) -> bool:
    return etag.startswith(_HASHED)


def content_hash(uri: str) -> str:
    """What stands for the ETag of a file that has none: the hash of its bytes."""

    def read() -> str:
        digest = xxhash.xxh3_128()
        with storage.open_read(uri) as f:
            while block := f.read(1 << 20):
                digest.update(block)
        return _HASHED + digest.hexdigest()

    return asked(uri, read)


def changed(uri: str, what: str) -> UserError:
    """The error for an input file that is not the one which the manifest knows."""
    return UserError(
        f"{redact(uri)} {what} since this run started: its documents would be others than the run counts on. Restore "
        "the file, or start a new run with another run.name or run.dir"
    )


def difference(uri: str, size: int | None, etag: str, now: dict[str, Any]) -> UserError | None:
    """The error if a file's `size` and `etag` as the manifest has them (None, "": not known) are not those of `now`."""
    if size is not None and now.get("size") is not None and int(now["size"]) != size:
        return changed(uri, f"had {size} bytes, now has {now['size']}")
    # What is known by its content is not told by `now`.
    if etag and not hashed(etag) and etag_of(now) and etag_of(now) != etag:
        return changed(uri, f"was changed ({etag} is now {etag_of(now)})")
    return None


class RawFile:
    """Reads the stored bytes of `uri` in order from any place. UserError if it is gone, or not of this size and etag.

    Local reads go to the file as they are asked for; remote ones fetch REMOTE_BYTES or WEB_BYTES (never beyond `stop`,
    if that is known) and are tried again when the connection breaks.
    """

    def __init__(self, uri: str, size: int | None = None, etag: str = "", stop: int | None = None) -> None:
        self.uri, self._stop = uri, stop
        self._fs: fsspec.AbstractFileSystem
        self._fs, self._path = storage.filesystem(uri)
        self._local = isinstance(self._fs, LocalFileSystem)
        self._known = size, etag
        self._file: IO[bytes] = self._open()
        error = difference(uri, size, etag, self._info())
        if error is not None:
            self._file.close()
            raise error
        self.size = size if size is not None else self._info().get("size")
        """Stored bytes; None where a web server does not tell."""
        self.position = 0
        """Bytes from the start of the file up to what was read last."""
        self._ahead = b""
        self._fetched, self._fetched_to = b"", 0
        self._hashes = hashed(etag) and not self._local
        self._digest = xxhash.xxh3_128() if self._hashes else None

    def __enter__(self) -> "RawFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> IO[bytes]:
        options: dict[str, Any] = {} if self._local else {"cache_type": "none"}
        size, etag = self._known
        tag = etag.removeprefix("etag:")
        try:
            if storage.is_s3(self._fs) and not self._fs.version_aware and size and tag != etag:
                # What is known is not asked for: each read is made under the condition that the ETag is the same.
                file: Any = self._fs.open(self._path, "rb", size=size, **options)
                file.details = {"name": self._path, "size": size, "ETag": tag}
                file.read_kw = {**file.read_kw, "IfMatch": tag}
                return cast(IO[bytes], file)
            opened: IO[bytes] = self._fs.open(self._path, "rb", **options)
            return opened
        except FileNotFoundError:
            raise changed(self.uri, "is gone") from None
        except OSError as e:
            raise UserError(f"{redact(self.uri)} cannot be opened: {redact(str(e))}") from None

    def _info(self) -> dict[str, Any]:
        if self._local:
            status = os.fstat(self._file.fileno())
            return {"size": status.st_size, "mtime": status.st_mtime}
        details = getattr(self._file, "details", None)
        return details if isinstance(details, dict) else {"size": getattr(self._file, "size", None)}

    def seek(self, position: int) -> None:
        begins = self._fetched_to - len(self._fetched)
        if begins <= position < self._fetched_to:  # a look at the beginning, say, before it is read
            self._ahead = self._fetched[position - begins :]
        else:
            self._file.seek(position)
            self._ahead = b""
        self.position = position
        # Of a part there is no hash to compare with.
        self._digest = xxhash.xxh3_128() if self._hashes and position == 0 else None

    def read(self, n: int) -> bytes:
        """At most `n` bytes; none at the end of the file, and never without having looked whether it is the end.

        Raises:
            BrokenStream: the device cannot read on. UserError: the file grew or shrank while it was being read, or the
                remote side does not answer.
        """
        if not self._ahead:
            self._ahead = self._fetch(n)
            if not self._local:
                self._fetched, self._fetched_to = self._ahead, self.position + len(self._ahead)
        data, self._ahead = self._ahead[:n], self._ahead[n:]
        self.position += len(data)
        if self._digest is not None:
            self._digest.update(data)
        if not data or (self.size is not None and self.position > self.size):
            self._check_end()
        return data

    def _fetch(self, n: int) -> bytes:
        if self._local:
            try:
                return self._file.read(n)
            except OSError as e:
                raise BrokenStream(f"the device cannot read on: {e}", self.unread) from None
        # Behind `stop` only the end of the last record is looked for.
        most = WEB_BYTES if self.uri.startswith(("http://", "https://")) else REMOTE_BYTES
        wanted = most if self._stop is None else min(most, self._stop - self.position)
        wanted = max(n, wanted)
        for attempt in range(_ATTEMPTS):
            try:
                return self._file.read(wanted)
            except FileNotFoundError:
                raise changed(self.uri, "is gone") from None
            except Exception as e:  # whatever the many file systems raise when a connection breaks
                if type(e).__name__ == "FileExpired":  # s3fs: the ETag is another
                    raise changed(self.uri, "was changed") from None
                if attempt == _ATTEMPTS - 1 or isinstance(e, PermissionError):
                    raise UserError(
                        f"{redact(self.uri)} cannot be read on at byte {self.position}: {redact(str(e))[:500]}. What "
                        "is done is kept: start the same run again"
                    ) from None
                time.sleep(0.5 * 2**attempt)
                self._file = self._open()
                self._file.seek(self.position)
        raise AssertionError("unreachable")

    def _check_end(self) -> None:
        size, etag = self._known
        if size is not None and self.position != size:
            raise changed(self.uri, f"had {size} bytes, {self.position} were there to read")
        if self._digest is not None and _HASHED + self._digest.hexdigest() != etag:
            raise changed(self.uri, "was changed (its bytes are others)")

    @property
    def unread(self) -> int:
        """Stored bytes behind the position, as far as known."""
        return max(0, (self.size or 0) - self.position)

    def check_unchanged(self) -> None:
        """UserError if a local file was changed while it was open. (Object stores do not change under a reader.)"""
        if self._local and not self._file.closed and (error := difference(self.uri, *self._known, self._info())):
            raise error

    def close(self) -> None:
        self._file.close()
