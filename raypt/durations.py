"""How long things take, for people: durations in words, and how long the steps that are left will take."""

import statistics
import time
from collections import deque

RECENT = 50
"""Steps that the speed is the median of."""


def duration(seconds: float) -> str:
    """For people: 42 s, 3 min 5 s, 2 h 10 min, 3 d 4 h."""
    seconds = max(0, round(seconds))
    for unit, size, smaller, small in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            rest = seconds % size // small
            return f"{seconds // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds} s"


def clock(seconds: float) -> str:
    """When it is so many seconds later, by this machine's clock: 14:32; of another day 28 Nov 14:32."""
    now = time.time()
    here, then = time.localtime(now), time.localtime(now + seconds)
    return time.strftime("%H:%M" if here[:3] == then[:3] else "%d %b %H:%M", then)


class Pace:
    """The time of a step as the recent ones had it: one that compiled, saved or was evaluated after moves it little."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=RECENT)

    def add(self, seconds: float) -> None:
        """A step has ended that took so long."""
        self._seconds.append(seconds)

    def left(self, steps: int) -> float:
        """Seconds that so many more steps will take; at least one has ended."""
        return steps * statistics.median_low(self._seconds)
