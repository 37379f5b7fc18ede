"""Which rank holds the others up, told from the beats of all of them."""

from collections.abc import Mapping
from dataclasses import dataclass

SILENT_BEATS = 3
"""Beats missed in a row after which a rank counts as silent."""


@dataclass(frozen=True)
class Sighting:
    """What is known of one rank, by the clock of the one who watches."""

    node: str
    step: int
    phase: str
    waits: bool
    """In a collective."""
    heard_s: float
    """Seconds since its last beat."""
    moved_s: float
    """Seconds since it was last seen to begin something."""


def explain(ranks: Mapping[int, Sighting], *, seconds: float, beat_s: float, remedy: str) -> str:
    """One sentence on a run that has made no step for `seconds`: who was last seen where, and what comes of it.

    A rank that is not heard of is suspected first; then one that is not in a collective while others are; then the one
    that is furthest behind.
    """
    silent = [r for r, s in ranks.items() if s.heard_s > SILENT_BEATS * beat_s]
    busy = [r for r, s in ranks.items() if not s.waits]
    if silent:
        suspects = silent
    elif len(busy) < len(ranks):
        suspects = busy
    else:
        suspects = []
    if not suspects:
        last = min(ranks, key=lambda r: (ranks[r].step, -ranks[r].moved_s))
        suspects = [last]
    shown = sorted(suspects, key=lambda r: (ranks[r].step, -ranks[r].heard_s, -ranks[r].moved_s))
    named = "; ".join(_words(r, ranks[r], silent=r in silent) for r in shown[:3])
    more = f"; and {len(shown) - 3} more" if len(shown) > 3 else ""
    others = [s for r, s in ranks.items() if r not in suspects]
    rest = ""
    if others:
        phases = sorted({s.phase for s in others})
        rest = f"; the other {len(others)} in {', '.join(phases)}"
    return f"no step for {seconds:.0f} s: {named}{more}{rest}. {remedy}"


def _words(rank: int, seen: Sighting, *, silent: bool) -> str:
    what = f"rank {rank} on node {seen.node} last seen in {seen.phase} of step {seen.step}"
    if silent:
        return f"{what}, not heard of for {seen.heard_s:.0f} s (its process hangs, or its node is cut off)"
    return f"{what} for {seen.moved_s:.0f} s" + (", in a collective" if seen.waits else "")
