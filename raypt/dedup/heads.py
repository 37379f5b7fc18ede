"""The beginnings of files on an object store, kept in a process that reads many partitions of the same files."""

import threading
from collections import OrderedDict

from raypt import storage

HEADS_BYTES = 64 << 20
"""Kept at most; for files that would need more they are not read."""


class Heads:
    """The beginnings of files on an object store, in this process; those that were used last."""

    def __init__(self) -> None:
        self._lock, self._kept, self._bytes = threading.Lock(), OrderedDict[tuple[str, int], bytes](), 0

    def get(self, uri: str, size: int) -> bytes:
        """The first `size` bytes; fewer where the file ends. A file of an exchange never changes."""
        with self._lock:
            if (found := self._kept.get((uri, size))) is not None:
                self._kept.move_to_end((uri, size))
                return found
        data = storage.read_range(uri, 0, size)
        with self._lock:
            if self._kept.setdefault((uri, size), data) is data:
                self._bytes += len(data)
            while self._bytes > HEADS_BYTES:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return data


heads = Heads()
