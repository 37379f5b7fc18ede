"""How far long work is: a bar that is plain text, a line as often as `Lines` has it, and what others are told of it."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from raypt import metrics
from raypt.durations import duration
from raypt.lines import OFTEN_S, Lines

log = logging.getLogger("raypt")

WIDTH = 20
"""Characters between the brackets of a bar."""


def bar(done: int, total: int) -> str:
    """`[#####...............]`. Full when all is done, and not before: plain ASCII, so that a log can be read too."""
    filled = WIDTH if done >= total else WIDTH * done // total
    return f"[{'#' * filled}{'.' * (WIDTH - filled)}]"


@dataclass(frozen=True)
class Done:
    """How much of a work was done, and when that was."""

    name: str
    done: int
    total: int
    per_s: float
    """Of what is counted, since it began."""
    at: float
    """Seconds since the epoch."""

    @property
    def left_s(self) -> float | None:
        """Seconds from `at` until all is done, at the same rate; None where none is known."""
        return (self.total - self.done) / self.per_s if self.per_s > 0 else None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def line(self, now: float | None = None) -> str:
        """`name: [####......] 2/5 tasks, 0.5/s, 6 s left`; what has gone by until `now` is not left any more."""
        out = f"{self.name}: {bar(self.done, self.total)} {self.done}/{self.total} tasks, {self.per_s:.3g}/s"
        left = self.left_s
        return out if left is None else f"{out}, {duration(left - (0 if now is None else now - self.at))} left"


Watcher = Callable[[Done], str | None]
"""Is told how far a work is; what it returns ends the line."""
_watcher: Watcher | None = None


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """For the length of the block, `watcher` is told whenever a line of progress is due in this process, on whatever
    thread the work is.
    """
    global _watcher
    before, _watcher = _watcher, watcher
    try:
        yield
    finally:
        _watcher = before


class TaskProgress:
    """Shows (`raypt_tasks_*`) how far it is, and logs `name: bar, done/total, rate, ETA` as often as `Lines` has it: of
    what is done within ten seconds, nothing. A `watched` block hears the same.
    """

    def __init__(self, name: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.name, self.total, self._clock = name, total, clock
        self.done = 0
        metrics.put("raypt_tasks_planned", total, task=name)
        self._start = clock()
        self._lines = Lines(clock, waits=True)

    def add(self, n: int = 1) -> None:
        self.done += n
        metrics.put("raypt_tasks_done", self.done, task=self.name)
        elapsed = max(self._clock() - self._start, 1e-9)
        if not self._lines.due() and (self.done < self.total or elapsed < OFTEN_S):
            return
        told = Done(self.name, self.done, self.total, self.done / elapsed, time.time())
        more = None if (watcher := _watcher) is None else watcher(told)
        if self.done < self.total:
            log.info("%s%s", told.line(), f"; {more}" if more else "")
        else:
            shown = bar(told.done, told.total)
            log.info("%s: %s %d tasks in %s, %.3g/s", self.name, shown, self.total, duration(elapsed), told.per_s)
