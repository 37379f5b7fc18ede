"""A child process for code that hostile input can kill, hang or bloat: it outlives many calls, and its end is survived.

Parsers in C and C++ abort, loop and allocate on input that was made for it, and no `except` helps. What touches such
input runs here; if the child dies or does not answer, the caller gets an exception and the next call a new child.
"""

import atexit
import contextlib
import ctypes
import fcntl
import itertools
import os
import pickle
import resource
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import GeneratorType
from typing import Any, BinaryIO, TypeVar

Result = TypeVar("Result")

_HEAD = struct.Struct("<QI")
"""Bytes of the pickle, number of out-of-band buffers; the buffers' lengths (u64) and bytes follow the pickle."""
_PIPE_BYTES = 1 << 20
"""Linux lets every user have pipes of 1 MiB: fewer switches between the two processes than with 64 KiB."""
_PR_SET_PDEATHSIG = 1
_STDERR_SHOWN = 300
_ITEM, _RESULT, _ERROR = "item", "result", "error"


class ChildDied(Exception):
    """The child process ended during a call: `str()` says by which signal or status, and its last words."""


class ChildTimeout(ChildDied):
    """The child process did not answer in time and was killed."""


def _write(fd: int, value: Any) -> None:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    raws = [b.raw() for b in buffers]
    start = _HEAD.pack(len(head), len(raws)) + struct.pack(f"<{len(raws)}Q", *(r.nbytes for r in raws))
    for part in (memoryview(start), memoryview(head), *raws):
        at = 0
        while at < part.nbytes:
            at += os.write(fd, part[at:])


class Sandbox:
    """One child process, started at the first call and again after it died. Not for several threads at once.

    `memory_bytes` bounds what the child may allocate beyond what it needs to start: allocations above it fail.
    """

    def __init__(self, memory_bytes: int | None = None) -> None:
        self._memory_bytes = memory_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._to = self._from = -1
        self._stderr: BinaryIO | None = None

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def call(self, fn: Callable[..., Result], *args: Any, seconds: float | None = None) -> Result:
        """`fn(*args)` in the child. `fn` is importable, arguments and result can be pickled.

        Raises:
            ChildTimeout: no answer within `seconds`. ChildDied: the child ended. Whatever `fn` raised.
        """
        self._send((fn, args))
        kind, result = self._receive(seconds)
        if kind == _ERROR:
            raise result
        value: Result = result
        return value

    def stream(self, fn: Callable[..., Iterator[Result]], *args: Any, seconds: float | None = None) -> Iterator[Result]:
        """The items of the generator `fn(*args)`, which runs ahead by what a pipe holds. `seconds` bounds each wait.

        A stream that is not read to its end ends the child.
        """
        self._send((fn, args))
        whole = False
        try:
            while True:
                kind, item = self._receive(seconds)
                whole = kind != _ITEM
                if kind == _ERROR:
                    raise item
                if kind == _RESULT:
                    return
                yield item
        finally:
            if not whole:
                self.close()

    @property
    def alive(self) -> bool:
        """Whether there is a child: the next call does not start one."""
        return self._process is not None and os.getpid() == self._owner and self._process.poll() is None

    def close(self) -> None:
        """End the child, if there is one; a later call starts another."""
        process, self._process = self._process, None
        if process is None or os.getpid() != self._owner:
            return
        for fd in (self._to, self._from):
            os.close(fd)
        process.kill()
        process.wait()
        if self._stderr is not None:
            self._stderr.close()

    def _start(self) -> None:
        self._owner = os.getpid()
        child_in, self._to = os.pipe()
        self._from, child_out = os.pipe()
        for fd in (self._to, self._from):
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the child lives)
        code = f"from raypt.corpus.sandbox import serve; serve({child_in}, {child_out}, {self._memory_bytes})"
        path = os.pathsep.join(p for p in sys.path if p)
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=self._stderr,
            stderr=self._stderr,
            pass_fds=(child_in, child_out),
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        os.close(child_in)
        os.close(child_out)

    def _send(self, value: Any) -> None:
        if self._process is None or os.getpid() != self._owner:
            self._process = None
            self._start()
        elif self._process.poll() is not None:  # ended between two calls: nothing was lost
            self.close()
            self._start()
        try:
            _write(self._to, value)
        except BrokenPipeError:
            raise self._died() from None

    def _receive(self, seconds: float | None) -> tuple[str, Any]:
        deadline = None if seconds is None else time.monotonic() + seconds
        head = self._read(_HEAD.size, deadline, seconds)
        size, count = _HEAD.unpack(head)
        lengths = struct.unpack(f"<{count}Q", self._read(8 * count, deadline, seconds))
        payload = self._read(size, deadline, seconds)
        buffers = [self._read(n, deadline, seconds) for n in lengths]
        kind, value = pickle.loads(payload, buffers=buffers)
        return kind, value

    def _read(self, n: int, deadline: float | None, seconds: float | None) -> bytearray:
        data = bytearray(n)
        view, at = memoryview(data), 0
        while at < n:
            if deadline is not None:
                ready, _, _ = select.select([self._from], [], [], max(0.0, deadline - time.monotonic()))
                if not ready:
                    self.close()
                    raise ChildTimeout(f"no answer within {seconds:g} s")
            got = os.readv(self._from, [view[at:]])
            if not got:
                raise self._died()
            at += got
        return data

    def _died(self) -> ChildDied:
        process, stderr = self._process, self._stderr
        assert process is not None
        assert stderr is not None
        try:
            status = process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - 4 * _STDERR_SHOWN))
        words = stderr.read().decode("utf-8", "replace").strip()[-_STDERR_SHOWN:]
        self.close()
        if status < 0:
            how = f"killed by signal {-status} ({signal.Signals(-status).name})"
        else:
            how = f"ended with status {status}"
        return ChildDied(f"{how}: {words}" if words else how)


_idle: dict[tuple[int, int | None], list[Sandbox]] = {}


@contextlib.contextmanager
def borrowed_sandbox(memory_bytes: int | None = None) -> Iterator[Sandbox]:
    """A sandbox with this bound for one user at a time; the next one gets the same, so that its start (some tenths of a
    second) is paid once a process."""
    idle = _idle.setdefault((os.getpid(), memory_bytes), [])
    box = idle.pop() if idle else Sandbox(memory_bytes)
    try:
        yield box
    finally:
        idle.append(box)


@atexit.register
def _close_idle() -> None:
    for box in itertools.chain(*_idle.values()):
        box.close()


# --- in the child ----------------------------------------------------------------------------------------------------


def _limit_memory(memory_bytes: int) -> None:
    """Let allocations fail beyond `memory_bytes` more than the process has now; and if the machine runs out of memory
    all the same, let the kernel take this process first."""
    status = Path("/proc/self/status")
    used = next((int(x.split()[1]) for x in status.read_text().splitlines() if x.startswith("VmData:")), 0) << 10
    limit = used + memory_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _portable(error: BaseException) -> BaseException:
    """`error` if it can be pickled and read again, else a RuntimeError that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def serve(child_in: int, child_out: int, memory_bytes: int | None) -> None:
    """The child's loop: read a call, answer it, until the parent closes the pipe or dies."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if memory_bytes is not None:
        _limit_memory(memory_bytes)
    source = os.fdopen(child_in, "rb")
    while head := source.read(_HEAD.size):
        size, count = _HEAD.unpack(head)
        lengths = struct.unpack(f"<{count}Q", source.read(8 * count))
        payload = source.read(size)
        try:
            fn, args = pickle.loads(payload, buffers=[source.read(n) for n in lengths])
            result = fn(*args)
            if isinstance(result, GeneratorType):
                for item in result:
                    _write(child_out, (_ITEM, item))
                result = None
            _write(child_out, (_RESULT, result))
        except BaseException as e:
            _write(child_out, (_ERROR, _portable(e)))
