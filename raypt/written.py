"""What this process wrote to an object store, or read of it, at hand without a request for those who may."""

import contextlib
import contextvars
import threading
from collections import OrderedDict
from collections.abc import Iterator, Set

FILE_BYTES, ALL_BYTES = 1 << 20, 16 << 20
"""Of the small files that are kept as they were written last."""
REMEMBERED_BYTES = 256 << 20
"""Of what a task keeps to read it again: the compressed text of a full group (`raypt.tasks.together`), and no more
where a shard is large."""


class _Remembered:
    """Those of `wanted` that were written, up to REMEMBERED_BYTES of them."""

    def __init__(self, wanted: Set[str]) -> None:
        self.wanted, self.files, self._bytes = wanted, dict[str, bytes](), 0

    def put(self, uri: str, data: bytes) -> None:
        self.drop(uri)
        if uri in self.wanted and self._bytes + len(data) <= REMEMBERED_BYTES:
            self.files[uri] = data
            self._bytes += len(data)

    def drop(self, uri: str, *, below: bool = False) -> None:
        for name in [name for name in self.files if name == uri or (below and name.startswith(f"{uri}/"))]:
            self._bytes -= len(self.files.pop(name))


class _Small:
    """Small files as they were written last."""

    def __init__(self) -> None:
        self._lock, self._files, self._bytes = threading.Lock(), OrderedDict[str, bytes](), 0

    def put(self, uri: str, data: bytes) -> None:
        self.drop(uri)
        if len(data) <= FILE_BYTES:
            with self._lock:
                self._files[uri] = data
                self._bytes += len(data)
                while self._bytes > ALL_BYTES:
                    self._bytes -= len(self._files.popitem(last=False)[1])

    def drop(self, uri: str, *, below: bool = False) -> None:
        with self._lock:
            gone = [uri] if not below else [name for name in self._files if name == uri or name.startswith(f"{uri}/")]
            self._bytes -= sum(len(self._files.pop(name, b"")) for name in gone)

    def get(self, uri: str) -> bytes | None:
        with self._lock:
            return self._files.get(uri)


_of_process = _Small()
_small: contextvars.ContextVar[_Small] = contextvars.ContextVar("raypt-small", default=_of_process)
_small_are_read: contextvars.ContextVar[bool] = contextvars.ContextVar("raypt-own-writes", default=False)
_small_stay: contextvars.ContextVar[bool] = contextvars.ContextVar("raypt-unchanging", default=False)
_remembered: contextvars.ContextVar["_Remembered | None"] = contextvars.ContextVar("raypt-remembered", default=None)


@contextlib.contextmanager
def own_writes() -> Iterator[None]:
    """For the length of the block, small files that this process wrote are read as it wrote them: of a run that it
    alone writes them of, and for what may show what was there a moment ago.
    """
    token = _small_are_read.set(True)
    try:
        yield
    finally:
        _small_are_read.reset(token)


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """The block knows nothing of what this process has written or read, as if another did its work."""
    files, are_read, stay = _small.set(_Small()), _small_are_read.set(False), _small_stay.set(False)
    try:
        yield
    finally:
        _small.reset(files)
        _small_are_read.reset(are_read)
        _small_stay.reset(stay)


@contextlib.contextmanager
def unchanging() -> Iterator[None]:
    """As `own_writes`, and what the block reads is kept too: of files that are written once, whoever writes them."""
    token = _small_stay.set(True)
    try:
        with own_writes():
            yield
    finally:
        _small_stay.reset(token)


@contextlib.contextmanager
def remembering(uris: Set[str]) -> Iterator[None]:
    """For the length of the block, what it writes to `uris` is kept, and read from memory where the block reads it:
    what is made of a file as soon as it is written costs no request. Of more than REMEMBERED_BYTES the last are read
    again.
    """
    token = _remembered.set(_Remembered(uris))
    try:
        yield
    finally:
        _remembered.reset(token)


def remembers(uri: str, size: int) -> bool:
    """Whether so many bytes that the block this code runs in writes there would be read by it from memory."""
    if (kept := _remembered.get()) is not None and uri in kept.wanted:
        return True
    return size <= FILE_BYTES and _small_are_read.get()


def note(uri: str, data: bytes | None) -> None:
    """`uri` was written; None: of bytes that are not at hand."""
    kept = _remembered.get()
    if data is None:
        forget(uri)
        return
    _small.get().put(uri, data)
    if kept is not None:
        kept.put(uri, data)


def note_read(uri: str, data: bytes) -> None:
    """All of `uri` was read."""
    if _small_stay.get():
        _small.get().put(uri, data)


def forget(uri: str, *, below: bool = False) -> None:
    """`uri` is not what it was; nor, with `below`, is what lies below it."""
    _small.get().drop(uri.rstrip("/"), below=below)
    if (kept := _remembered.get()) is not None:
        kept.drop(uri, below=below)


def found(uri: str) -> bytes | None:
    """What `uri` holds, where that may be read here."""
    if (kept := _remembered.get()) is not None and (data := kept.files.get(uri)) is not None:
        return data
    return _small.get().get(uri) if _small_are_read.get() else None
