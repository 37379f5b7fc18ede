"""An object store that costs time: `latency://bucket/key`, in this process's memory, with a pause a request.

What an object store at 30 ms a request does to a program cannot be seen on a local disk. Each request of the driver
waits `latency_s` and is counted with its bytes, by stage; the requests that tasks make are counted apart and cost no
time, since tasks run on many machines at once while the driver is alone.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import fsspec
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from raypt.tasks import in_task


@dataclass
class Figures:
    """Requests and bytes of one stage."""

    driver: Counter[str] = field(default_factory=Counter)
    """By operation."""
    tasks: Counter[str] = field(default_factory=Counter)
    bytes_read: int = 0
    bytes_written: int = 0


class _State:
    """What all instances of the file system share."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, bytes]] = {}
        """Directory -> name -> content."""
        self.directories: dict[str, set[str]] = {}
        """Directory -> its subdirectories."""
        self.latency_s = 0.0
        self.counting = False
        self.stage = ""
        self.figures: dict[str, Figures] = {}
        self.lock = threading.Lock()


STATE = _State()


def _split(path: str) -> tuple[str, str]:
    directory, _, name = path.strip("/").rpartition("/")
    return directory, name


class LatencyFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """fsspec over a dictionary, with a pause a request."""

    protocol = "latency"
    cachable = True
    page = 1000
    """Entries that one listing request returns, as S3's."""

    def _request(
        self, operation: str, *, read: int = 0, written: int = 0, times: int = 1, task: bool | None = None
    ) -> None:
        if not STATE.counting:
            return
        task = in_task() if task is None else task
        with STATE.lock:
            figures = STATE.figures.setdefault(STATE.stage, Figures())
            (figures.tasks if task else figures.driver)[operation] += times
            figures.bytes_read += read
            figures.bytes_written += written
        if not task:
            time.sleep(STATE.latency_s * times)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        self._request("HEAD")
        path = self._strip_protocol(path).strip("/")
        directory, name = _split(path)
        content = STATE.objects.get(directory, {}).get(name)
        if content is not None:
            return {"name": path, "size": len(content), "type": "file", "etag": f"{hash(content):x}"}
        if path in STATE.objects or path in STATE.directories:
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def ls(self, path: str, detail: bool = True, **_: Any) -> Any:
        path = self._strip_protocol(path).strip("/")
        files, folders = STATE.objects.get(path, {}), STATE.directories.get(path, set())
        self._request("LIST", times=max(1, -(-(len(files) + len(folders)) // self.page)))
        if not files and not folders:
            raise FileNotFoundError(path)
        found = [
            {"name": f"{path}/{name}", "size": len(content), "type": "file", "etag": f"{hash(content):x}"}
            for name, content in list(files.items())
        ]
        found += [{"name": f"{path}/{name}", "size": 0, "type": "directory"} for name in sorted(folders)]
        return found if detail else [entry["name"] for entry in found]

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        content = self._content(path)[start:end]
        self._request("GET", read=len(content), task=options.get("task"))
        return content

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        directory, name = _split(self._strip_protocol(path))
        self._request("PUT", written=len(value))
        with STATE.lock:
            STATE.objects.setdefault(directory, {})[name] = bytes(value)
            while directory:
                parent, child = _split(directory)
                STATE.directories.setdefault(parent, set()).add(child)
                directory = parent

    def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        with open(lpath, "rb") as f:  # noqa: PTH123 (may be a descriptor's path)
            self.pipe_file(rpath, f.read())

    def rm_file(self, path: str) -> None:
        self._content(path)
        directory, name = _split(self._strip_protocol(path))
        self._request("DELETE")
        with STATE.lock:
            STATE.objects.get(directory, {}).pop(name, None)

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        """As S3: one request for a thousand keys."""
        path = self._strip_protocol(path).strip("/")
        directory, name = _split(path)
        with STATE.lock:
            if STATE.objects.get(directory, {}).pop(name, None) is not None:
                found = 1
            else:
                under = [d for d in STATE.objects if d == path or d.startswith(f"{path}/")]
                found = sum(len(STATE.objects.pop(d)) for d in under)
                for d in [d for d in STATE.directories if d == path or d.startswith(f"{path}/")]:
                    del STATE.directories[d]
                STATE.directories.get(directory, set()).discard(name)
        self._request("DELETE", times=max(1, -(-found // self.page)))
        if not found:
            raise FileNotFoundError(path)

    def _content(self, path: str) -> bytes:
        directory, name = _split(self._strip_protocol(path))
        content = STATE.objects.get(directory, {}).get(name)
        if content is None:
            self._request("GET")
            raise FileNotFoundError(path)
        return content

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **kwargs: Any) -> Any:
        assert mode == "rb", "written by pipe_file alone"
        kwargs.pop("autocommit", None)
        return _Reading(self, path, mode, block_size or 5 << 20, **kwargs)


class _Reading(AbstractBufferedFile):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.task = in_task()  # of who opened it: pyarrow reads in threads of its own
        super().__init__(*args, **kwargs)

    def _fetch_range(self, start: int, end: int) -> bytes:
        data: bytes = self.fs.cat_file(self.path, start, end, task=self.task)
        return data


@contextmanager
def object_store(latency_s: float) -> Iterator[_State]:
    """The empty store, registered as `latency://`; nothing is counted until `STATE.counting` is set."""
    fsspec.register_implementation("latency", LatencyFileSystem, clobber=True)
    STATE.__init__()  # type: ignore[misc]
    STATE.latency_s = latency_s
    try:
        yield STATE
    finally:
        STATE.__init__()  # type: ignore[misc]
