"""How long this process stands in collectives: the parts of a step that DeepSpeed's calls would otherwise hide."""

import functools
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

_COLLECTIVES = (
    "all_gather",
    "all_gather_coalesced",
    "all_gather_into_tensor",
    "all_reduce",
    "all_reduce_coalesced",
    "all_to_all_single",
    "barrier",
    "broadcast",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
)


class CommClock:
    """Host seconds inside collectives, summed over the process's life: moving bytes, and waiting for other ranks.

    Used as a context around a collective; a context within another one counts once. An asynchronous collective counts
    its call and the wait for its handle, not what the process computed in between.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0
        self._entered = 0.0

    def __enter__(self) -> None:
        if self._depth == 0:
            self._entered = time.perf_counter()
        self._depth += 1

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.seconds += time.perf_counter() - self._entered

    @property
    def inside(self) -> bool:
        """Whether this process stands in a collective now."""
        return self._depth > 0

    def watch(self, backend: Any) -> None:
        """Count the collectives of DeepSpeed's backend object, through which all of its communication passes."""
        for name in _COLLECTIVES:
            function = getattr(backend, name)
            if not isinstance(function, _Counted):
                setattr(backend, name, _Counted(function, self))


class _Counted:
    def __init__(self, function: Callable[..., Any], clock: CommClock) -> None:
        functools.update_wrapper(self, function)
        self.function, self.clock = function, clock

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self.clock:
            work = self.function(*args, **kwargs)
        return None if work is None else _CountedWork(work, self.clock)


class _CountedWork:
    """The handle of an asynchronous collective."""

    def __init__(self, work: Any, clock: CommClock) -> None:
        self._work, self._clock = work, clock

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        with self._clock:
            return self._work.wait(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)


CLOCK = CommClock()
"""Of this process: a process group is one for the process, too."""
