"""Packs: small files of several artefacts that lie one after the other in one object, which is written and read by one
request.

A file in a pack has a URI of its own, `<pack>#<first byte>+<bytes>`, which `raypt.storage` reads as any other. A pack
is named after what is in it, so its bytes never change, and a process that has read one keeps it for the next file.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable

KEPT_BYTES = 32 << 20
"""Of packs in a process: more than one of what is made together (`raypt.tasks.together`)."""
_FORM = re.compile(r"(\w+://.+)#(\d+)\+(\d+)")


def uri_of(pack: str, start: int, size: int) -> str:
    """Of a file in a pack."""
    return f"{pack}#{start}+{size}"


def parsed(uri: str) -> tuple[str, int, int] | None:
    """(pack, first byte, bytes) of a file in one; None for any other URI. No local file is taken for one."""
    match = _FORM.fullmatch(uri)
    return None if match is None or uri.startswith("file://") else (match[1], int(match[2]), int(match[3]))


class Kept:
    """The packs that were read last."""

    def __init__(self) -> None:
        self._lock, self._packs, self._bytes = threading.Lock(), OrderedDict[str, bytes](), 0
        self._reading: dict[str, threading.Lock] = {}

    def get(self, pack: str, read: Callable[[str], bytes]) -> bytes:
        """All of a pack; `read` gives it where it is not kept. Of threads that want it at a time, one reads it."""
        with self._lock:
            if (found := self._found(pack)) is not None:
                return found
            reading = self._reading.setdefault(pack, threading.Lock())
        with reading:
            with self._lock:
                if (found := self._found(pack)) is not None:
                    return found
            try:
                data = read(pack)
                self._keep(pack, data)
            finally:
                with self._lock:
                    self._reading.pop(pack, None)
        return data

    def _found(self, pack: str) -> bytes | None:
        if (found := self._packs.get(pack)) is not None:
            self._packs.move_to_end(pack)
        return found

    def _keep(self, pack: str, data: bytes) -> None:
        with self._lock:
            if self._packs.setdefault(pack, data) is data:
                self._bytes += len(data)
            while self._bytes > KEPT_BYTES:
                self._bytes -= len(self._packs.popitem(last=False)[1])


kept = Kept()
