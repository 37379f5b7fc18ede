"""The decorator of every compiled function.

numba is imported at the first call of a kernel, not where one is defined: reading a configuration, whose sections name
the classes of rules, needs no compiler.
"""

import atexit
import functools
import gc
import importlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

Result = TypeVar("Result")

_LOCK = threading.RLock()


@functools.cache
def load_compiler() -> None:
    """Numba and its tables into this process, 0.3 CPU seconds, once: wherever they are wanted before the first kernel.

    All that is made of it stays, so nothing is looked through for cycles meanwhile, which would be a tenth more; nor at
    the end of the process, in 0.1 s in place of 0.65: a worker that ends keeps a core from those of the next stage.
    """
    with _LOCK:
        enabled = gc.isenabled()
        gc.disable()
        try:
            importlib.import_module("raypt.kernel_cache").load_tables()
        finally:
            if enabled:
                gc.enable()
        atexit.register(gc.freeze)


class Kernel:
    """A function that numba compiles at its first call; to numba, a dispatcher, so that one kernel may call another."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self.py_func = function
        self._options = options
        self._dispatcher: Any = None
        functools.update_wrapper(self, function)

    @property
    def dispatcher(self) -> Any:
        """numba's own object: its `signatures`, `inspect_llvm()` and so on."""
        if self._dispatcher is None:
            with _LOCK:
                if self._dispatcher is None:
                    load_compiler()
                    import numba

                    made = numba.njit(**self._options)(self.py_func)
                    if self._options.get("cache"):
                        made._cache = importlib.import_module("raypt.kernel_cache").SharedCache(self.py_func)
                    self._dispatcher = made
        return self._dispatcher

    @property
    def _numba_type_(self) -> Any:
        return self.dispatcher._numba_type_

    def __call__(self, *args: Any) -> Any:
        try:
            return self.dispatcher(*args)
        except Exception as e:
            from numba.core.errors import NumbaError

            if isinstance(e, NumbaError) and "_nrt" in self._options:
                e.add_note(f"{self.py_func.__qualname__}: if it makes arrays, it is an `allocating_kernel`")
            raise

    def __reduce__(self) -> str:
        return self.py_func.__qualname__  # by name, as a function is pickled


def kernel(fn: Callable[..., Result]) -> Callable[..., Result]:
    """Compile `fn` with numba at its first call: cached on disk, the GIL released, C semantics for division by zero.

    It makes and returns no arrays (views of those it is given it may make) and calls no kernel that does: numba then
    counts no references in it. Each count is an atomic operation of 5 ns, wherever an array is handed on, sliced or
    taken from a tuple, and keeps the compiler from seeing that an array stays where it is: with counts, tagging took
    1.4 times as long and learning a tokenizer's merges twice.

    numba finds the types from the arguments, so to its callers a kernel is a function of anything; what it returns is
    what its annotation says.
    """
    return cast(Callable[..., Result], Kernel(fn, cache=True, nogil=True, error_model="numpy", _nrt=False))


def allocating_kernel(fn: Callable[..., Result]) -> Callable[..., Result]:
    """A `kernel` that may make arrays. What is done for each byte or word is better left to one that does not."""
    return cast(Callable[..., Result], Kernel(fn, cache=True, nogil=True, error_model="numpy"))


def inlined(fn: Callable[..., Result]) -> Callable[..., Result]:
    """A piece of kernels, compiled into each of them."""
    return cast(Callable[..., Result], Kernel(fn, inline="always"))
