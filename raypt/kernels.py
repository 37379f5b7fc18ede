"""The decorator of every compiled function, and a cache of what was compiled that outlives checkouts and uploads.

numba keys its cache by the path and the time of a source file, so each `ray job submit`, which unpacks the working
directory under a new name, would compile everything again, a minute a node; and it looks only at the file of a
function, so a change in a kernel that another file's kernel inlines would go unseen. Here the key is the content of all
kernel sources together.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import xxhash
from numba.core import caching

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

PACKAGE = Path(__file__).parent


@functools.cache
def sources_hash() -> str:
    """Hash of the names and contents of all modules of the package that have kernels."""
    digest = xxhash.xxh3_128()
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_bytes()
        if b"kernel" in text:
            digest.update(path.relative_to(PACKAGE).as_posix().encode())
            digest.update(text)
    return digest.hexdigest()


class ContentLocator(caching._CacheLocator):
    """Keeps compiled kernels in `~/.cache/raypt/kernels` (or RAYPT_KERNEL_CACHE), by the content of their sources."""

    def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
        self._lineno = py_func.__code__.co_firstlineno
        self._module = Path(py_file).relative_to(PACKAGE).with_suffix("").as_posix().replace("/", ".")

    def get_cache_path(self) -> str:
        root = os.environ.get("RAYPT_KERNEL_CACHE") or str(Path.home() / ".cache" / "raypt" / "kernels")
        return str(Path(root) / sources_hash() / self._module)

    def get_source_stamp(self) -> str:
        return sources_hash()

    def get_disambiguator(self) -> str:
        return str(self._lineno)

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> "ContentLocator | None":
        if not Path(py_file).is_relative_to(PACKAGE):
            return None
        locator = cls(py_func, py_file)
        try:
            locator.ensure_cache_path()
        except OSError:
            return None  # no home to write to: numba's own places come next
        return locator


caching.CacheImpl._locator_classes.insert(0, ContentLocator)


def kernel(fn: Kernel) -> Kernel:
    """Compile `fn` with numba at its first call: cached on disk, the GIL released, C semantics for division by zero."""
    return cast(Kernel, numba.njit(cache=True, nogil=True, error_model="numpy")(fn))
