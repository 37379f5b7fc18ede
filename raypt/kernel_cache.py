"""A cache of compiled kernels (`raypt.kernels`) that outlives checkouts and uploads.

numba keys its cache by the path and the time of a source file, so each `ray job submit`, which unpacks the working
directory under a new name, would compile everything again, a minute a node; and it looks only at the file of a
function, so a change in a kernel that another file's kernel inlines would go unseen. Here the key of a kernel is the
code of what it uses (`raypt.code_hash`).
"""

import contextlib
import fcntl
import importlib.util
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba.core import caching, event
from numba.core.registry import cpu_target

from raypt.code_hash import uses_hash
from raypt.kernel_place import COMPILING, PACKAGE, cache_root, own
from raypt.lines import say_once


class ContentLocator(caching._CacheLocator):
    """Keeps compiled kernels under `cache_root()`, by the code that each uses."""

    def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
        relative = Path(py_file).relative_to(PACKAGE).with_suffix("")
        self._module = ".".join((PACKAGE.name, *relative.parts))
        self._hash = uses_hash(self._module, py_func.__qualname__.split(".")[0])

    def get_cache_path(self) -> str:
        return str(own(cache_root() / self._module))

    def get_source_stamp(self) -> str:
        return self._hash

    def get_disambiguator(self) -> str:
        return self._hash[:16]

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> "ContentLocator | None":
        if not Path(py_file).is_relative_to(PACKAGE):
            return None
        locator = cls(py_func, py_file)
        try:
            ensure: Callable[[], None] = locator.ensure_cache_path
            ensure()
        except OSError:
            return None  # no home to write to: numba's own places come next
        return locator


LOCK_WAIT_S = 120.0
"""How long another process's compiling is waited for before a kernel is compiled here as well."""


class SharedCache(caching.FunctionCache):
    """Of the processes of a machine that want a kernel at a time one compiles it, and the others wait for what it
    leaves. What one process holds another waits for only as kernels call each other, which is never in a circle.
    """

    _held: int | None = None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What is kept of a signature, or None: then this process is to compile it, and holds the lock (`release`)."""
        load: Callable[..., Any] = super().load_overload
        found = load(sig, target_context)
        if found is not None or not self._enabled:
            return found
        if self._lock():  # somebody else had it
            found = load(sig, target_context)
        if found is not None:
            self.release()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled, then let go of the lock."""
        save: Callable[..., None] = super().save_overload
        try:
            save(sig, data)
        finally:
            self.release()

    def _lock(self) -> bool:
        """Take the kernel's lock; whether it had to be waited for. Without it where the file system has none."""
        if self._held is not None:
            return False
        try:
            held = os.open(
                os.path.join(self._cache_path, f"{self._impl.filename_base}.lock"), os.O_RDWR | os.O_CREAT, 0o600
            )
        except OSError:
            return False
        waited, until, pause = False, time.monotonic() + LOCK_WAIT_S, 0.02
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._held = held
                return waited
            except BlockingIOError:
                waited = True
                if time.monotonic() < until:
                    time.sleep(pause)
                    pause = min(2 * pause, 0.5)  # a home that a thousand processes share asks its server each time
                    continue
            except OSError:
                pass
            os.close(held)
            return waited

    def release(self) -> None:
        """The lock to whoever waits for it."""
        if self._held is not None:
            held, self._held = self._held, None
            with contextlib.suppress(OSError):
                os.close(held)


class _Compiling(event.Listener):
    """Says that kernels are compiled when the first one is that was looked for in the cache and is not there; gives the
    lock of one that cannot be back."""

    def on_start(self, found: event.Event) -> None:
        function = found.data["dispatcher"].py_func
        if function.__module__.startswith(f"{PACKAGE.name}."):
            say_once(COMPILING)

    def on_end(self, found: event.Event) -> None:
        cache = getattr(found.data["dispatcher"], "_cache", None)
        # numba 0.68's own `is_failed` says the contrary.
        if found._exc_details is not None and isinstance(cache, SharedCache):
            cache.release()


def _scipy_is_there() -> None:
    if importlib.util.find_spec("scipy") is None:
        raise ImportError("scipy is required for linear algebra")


def load_tables() -> None:
    """Numba's tables of functions, which come else with the first kernel of a process: 0.2 CPU seconds.

    One of their modules looks for BLAS by importing scipy.linalg, which takes as long again. No kernel of this package
    multiplies matrices, so it is told at once what it asks, whether scipy is there; a kernel of others that does so
    imports it when it is compiled, as always.
    """
    linalg: Any = importlib.import_module("numba.np.linalg")
    look = linalg.ensure_blas
    linalg.ensure_blas = _scipy_is_there
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        linalg.ensure_blas = look
    cpu_target.target_context.refresh()


caching.CacheImpl._locator_classes.insert(0, ContentLocator)
event.register("numba:compile", _Compiling())
