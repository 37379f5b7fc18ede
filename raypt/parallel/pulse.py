"""What this process is at, for those who watch it from outside: a word and a number, written without a lock."""

from dataclasses import dataclass

from raypt.parallel.comm_clock import CLOCK


@dataclass(frozen=True)
class Beat:
    """What one rank was at when it was last heard of."""

    step: int
    """The step it is in; 0 before the first."""
    phase: str
    """What it does for it."""
    waits: bool
    """It stands in a collective: for others, or for bytes."""
    moves: int
    """Grows with every change of phase."""


class Pulse:
    """Set by the loop and the engine as they go, read by a thread."""

    def __init__(self) -> None:
        self._now = (0, "starting", 0)

    def at(self, phase: str, step: int | None = None) -> None:
        """This process begins with `phase`, of the same step as before or of another."""
        before, _, moves = self._now
        self._now = (before if step is None else step, phase, moves + 1)

    def beat(self) -> Beat:
        step, phase, moves = self._now
        return Beat(step, phase, CLOCK.inside, moves)


PULSE = Pulse()
"""Of this process, which is one rank."""
