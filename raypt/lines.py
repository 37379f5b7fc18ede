"""When long work says where it is: often enough to see that it lives, seldom enough to be read after a month."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger("raypt")

OFTEN_S, SELDOM_S = 10.0, 60.0
SHARE = 0.2
"""Of the time since the first line, that passes between two."""


class Lines:
    """A line at the first step, then one every ten seconds, after five minutes one a minute. With `waits` the first is
    ten seconds after now."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, waits: bool = False) -> None:
        self._clock = clock
        self._first: float | None = clock() if waits else None
        self._last = self._first or 0.0

    def due(self) -> bool:
        """Whether to write a line now; it is taken as written."""
        now = self._clock()
        if self._first is None:
            self._first = self._last = now
            return True
        if now - self._last < min(max(OFTEN_S, SHARE * (now - self._first)), SELDOM_S):
            return False
        self._last = now
        return True


_said: set[str] = set()


def say_once(text: str) -> None:
    """Log a line that this process has not logged yet. Of a run's workers, the driver shows the first to say it
    (`raypt.ray_output`)."""
    if text not in _said:
        _said.add(text)
        log.info("%s", text, extra={"once": True})
