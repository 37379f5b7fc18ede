"""Which source the g-th sample comes from: a deterministic, low-discrepancy interleave of weighted sources.

The rule is Tijdeman's chairman assignment (Discrete Mathematics 32, 1980): at every prefix of the stream, the number of
samples drawn from a source differs from its share of the prefix by less than one, whatever the weights and however they
change (a curriculum). A source that reaches its limit leaves; the rest share its place, and the bound holds from there.
"""

import bisect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from raypt.kernels import kernel

UNLIMITED = np.iinfo(np.int64).max
_SNAPSHOT_EVERY = 1 << 16


@dataclass(frozen=True)
class Phase:
    """From sample `start` on (of the whole stream, from 0), sources are drawn with these weights (any scale)."""

    start: int
    weights: tuple[float, ...]


@kernel
def _draw(
    first: int,
    counts: npt.NDArray[np.int64],
    caps: npt.NDArray[np.int64],
    base: npt.NDArray[np.float64],
    starts: npt.NDArray[np.int64],
    shares: npt.NDArray[np.float64],
    out: npt.NDArray[np.int16],
) -> tuple[int, int]:
    """Fill `out` with sources from sample `first` on, updating `counts`; stops before a source would exceed its cap.

    `base[p, k]` is the target count of source k at the start of phase p. Returns (drawn, source that stopped it or -1).
    """
    n_phases, n_sources = shares.shape
    phase = 0
    for i in range(out.size):
        t = first + i
        while phase + 1 < n_phases and starts[phase + 1] <= t:
            phase += 1
        active = 0
        for k in range(n_sources):
            if shares[phase, k] > 0:
                active += 1
        slack = 1.0 / (2 * active - 2) if active > 1 else 0.0
        best, best_deadline = -1, np.inf
        fallback, fallback_due = -1, -np.inf
        for k in range(n_sources):
            if shares[phase, k] <= 0:
                continue
            due = base[phase, k] + shares[phase, k] * (t + 1 - starts[phase]) - counts[k]
            if due > fallback_due:
                fallback, fallback_due = k, due
            if due < slack - 1e-9:
                continue
            # The latest time by which k must be drawn, with the weights of the phases to come.
            need, deadline = 1.0 - slack - due, float(t)
            p, now = phase, t + 1
            while True:
                last = p + 1 == n_phases
                room = np.inf if last else float(starts[p + 1] - now)
                if shares[p, k] > 0 and (last or shares[p, k] * room >= need):
                    deadline = now + need / shares[p, k]
                    break
                if last:
                    deadline = np.inf
                    break
                need -= shares[p, k] * room
                p += 1
                now = starts[p]
            if deadline < best_deadline:
                best, best_deadline = k, deadline
        if best < 0:
            best = fallback
        if counts[best] >= caps[best]:
            return i, best
        counts[best] += 1
        out[i] = best
    return out.size, -1


@dataclass
class _State:
    """The stream just before sample `first`; `segment` numbers the set of sources still in it."""

    first: int
    counts: npt.NDArray[np.int64]
    segment: int


class Mixture:
    """The source of every sample, and its ordinal within that source's own stream.

    `capacity(k, wanted)` says how many samples source k can give: at least `wanted`, unless it ends before (then its
    exact, final number). It may wait for the answer. `None` = no source ever ends.
    """

    def __init__(self, phases: Sequence[Phase], capacity: Callable[[int, int], int] | None = None) -> None:
        assert phases, "a mixture needs at least one phase"
        assert phases[0].start == 0, phases
        assert all(a.start < b.start for a, b in itertools.pairwise(phases)), phases
        self.n_sources = len(phases[0].weights)
        self._capacity = capacity
        self._caps = np.full(self.n_sources, UNLIMITED if capacity is None else 0, np.int64)
        zero = np.zeros(self.n_sources, np.int64)
        self._segments: list[tuple[int, npt.NDArray[np.int64], list[Phase], frozenset[int]]] = []
        self._tables: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]] = []
        self.end: int | None = None
        """Length of the stream, once it is known that every source ends."""
        self._push_segment(0, zero, list(phases), frozenset())
        self._snapshots = [_State(0, zero, 0)]
        self._cursor = self._snapshots[0]

    def _push_segment(
        self, first: int, counts: npt.NDArray[np.int64], phases: list[Phase], ended: frozenset[int]
    ) -> None:
        """From `first` on, only the sources not in `ended` are drawn, their targets counted from here."""
        live = [p for i, p in enumerate(phases) if i + 1 == len(phases) or phases[i + 1].start > first]
        live[0] = replace(live[0], start=first)
        shares = np.array([p.weights for p in live], np.float64)
        shares[:, sorted(ended)] = 0.0
        totals = shares.sum(axis=1, keepdims=True)
        if not totals.all():
            # A phase whose own sources have all ended falls back on what is left, evenly.
            even = np.array([0.0 if k in ended else 1.0 for k in range(self.n_sources)])
            shares[totals[:, 0] == 0] = even
            totals = shares.sum(axis=1, keepdims=True)
        if not totals.all():
            self.end = first
            shares = np.zeros_like(shares)
        else:
            shares = shares / totals
        starts = np.array([p.start for p in live], np.int64)
        base = np.zeros_like(shares)
        base[0] = counts
        for p in range(1, len(live)):
            base[p] = base[p - 1] + shares[p - 1] * (starts[p] - starts[p - 1])
        self._segments.append((first, counts.copy(), live, ended))
        self._tables.append((starts, shares, base))

    def _advance(self, state: _State, out: npt.NDArray[np.int16]) -> tuple[_State, int]:
        """Draw len(out) samples after `state`; fewer only at the end of the stream."""
        counts, first, segment, drawn = state.counts.copy(), state.first, state.segment, 0
        while drawn < out.size:
            if segment + 1 < len(self._segments) and self._segments[segment + 1][0] <= first:
                segment += 1
                continue
            if self.end is not None and first >= self.end:
                break
            stop = out.size
            if segment + 1 < len(self._segments):
                stop = min(stop, drawn + self._segments[segment + 1][0] - first)
            starts, shares, base = self._tables[segment]
            n, blocked = _draw(first, counts, self._caps, base, starts, shares, out[drawn:stop])
            drawn, first = drawn + n, first + n
            if blocked < 0:
                continue
            assert self._capacity is not None
            known = self._capacity(blocked, int(counts[blocked]) + 1)
            self._caps[blocked] = known
            if known <= counts[blocked]:
                _, _, phases, ended = self._segments[segment]
                self._push_segment(first, counts, phases, ended | {blocked})
        return _State(first, counts, segment), drawn

    def first_shares(self) -> list[float]:
        """The share of each source at the start of the stream; they add up to 1."""
        return [float(x) for x in self._tables[0][1][0]]

    def draw(self, first: int, end: int) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int64]]:
        """(source[n], ordinal within that source[n]) of samples [first, end); n is smaller if the stream ends there."""
        state = self._before(first)
        if state.first < first:
            return np.empty(0, np.int16), np.empty(0, np.int64)
        out = np.empty(max(end - first, 0), np.int16)
        before = state.counts
        state, drawn = self._advance(state, out)
        self._cursor = state
        self._remember(state)
        out = out[:drawn]
        ordinals = np.empty(drawn, np.int64)
        for k in np.unique(out):
            mask = out == k
            ordinals[mask] = before[k] + np.arange(int(mask.sum()))
        return out, ordinals

    def counts(self, at: int) -> list[int]:
        """Samples of each source among the first `at` of the stream (all that there are, if it ends before)."""
        return [int(n) for n in self._before(at).counts]

    def bookmark(self, at: int) -> dict[str, Any]:
        """What `resume` needs to draw on from sample `at` without drawing all that came before it; JSON."""
        state = self._before(at)
        left = [[first, counts.tolist(), sorted(ended)] for first, counts, _, ended in self._segments[1:]]
        here = {"first": state.first, "counts": state.counts.tolist(), "segment": state.segment}
        return {**here, "left": left, "caps": self._caps.tolist()}

    def resume(self, bookmark: dict[str, Any]) -> None:
        """Take over what another Mixture of the same phases knew; draws from before the bookmark begin at 0 again."""
        phases = self._segments[0][2]
        for first, counts, ended in bookmark["left"][len(self._segments) - 1 :]:
            self._push_segment(first, np.array(counts, np.int64), phases, frozenset(ended))
        self._caps = np.array(bookmark["caps"], np.int64)
        state = _State(bookmark["first"], np.array(bookmark["counts"], np.int64), bookmark["segment"])
        self._snapshots = [s for s in self._snapshots if s.first < state.first] + [state]

    def _before(self, first: int) -> _State:
        """The stream just before sample `first`, or at its end if that comes earlier."""
        at = bisect.bisect_right(self._snapshots, first, key=lambda s: s.first) - 1
        state = self._snapshots[at]
        if state.first <= self._cursor.first <= first:
            state = self._cursor
        while state.first < first:
            stop = min(first, (state.first // _SNAPSHOT_EVERY + 1) * _SNAPSHOT_EVERY)
            state, drawn = self._advance(state, np.empty(stop - state.first, np.int16))
            self._remember(state)
            if drawn == 0:
                break
        return state

    def _remember(self, state: _State) -> None:
        if state.first >= self._snapshots[-1].first + _SNAPSHOT_EVERY:
            self._snapshots.append(state)
