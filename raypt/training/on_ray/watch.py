"""Heartbeats: each worker says what it is at, the driver says who holds the others up."""

import logging
import socket
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from raypt import metrics, notify
from raypt.parallel.pulse import PULSE
from raypt.training.on_ray.board import BEATS, STOP, Board
from raypt.training.stall import Sighting, explain

log = logging.getLogger("raypt")

BEAT_S = 2.0
"""Seconds between two beats of a rank: 512 of them are some 250 requests a second to the head node."""


class Beating:
    """A worker's thread: puts its beat on the board, and looks whether the run is to stop."""

    def __init__(self, board: Board, rank: int, group: str) -> None:
        """`group` names this start of the worker group."""
        self.board, self.rank, self.group = board, rank, group
        self.stop_asked = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> "Beating":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        fixed = {"node": socket.gethostname(), "group": self.group}
        number = 0
        while True:
            number += 1
            try:
                if self.rank == 0:  # one asks for all: the loop agrees on it
                    self.stop_asked = self.board.get(STOP) is not None
                self.board.put(f"{BEATS}{self.rank}", {**fixed, **asdict(PULSE.beat()), "number": number})
            except Exception as e:  # the head node is gone or slow: training goes on without being watched
                log.debug("no heartbeat: %s", e)
            if self._end.wait(BEAT_S):
                return


@dataclass
class _Seen:
    beat: dict[str, Any]
    heard: float
    moved: float


class Watch:
    """The driver's thread: says when the run stands still, and who was last seen where."""

    def __init__(self, board: Board, *, after_s: float, timeout_s: float) -> None:
        """`after_s` and `timeout_s`: see train.stall_warning_s and train.collective_timeout_s."""
        self.board, self.after_s = board, after_s
        self._most = timeout_s / 2  # later the group is gone, and nobody is there to be told from the one that hangs
        self._remedy = (
            f"If it does not go on, the group is restarted within train.collective_timeout_s={timeout_s:g} s (before "
            "the first step: train.first_step_timeout_s)"
        )
        self._seen: dict[int, _Seen] = {}
        self._group = ""
        self._groups: set[str] = set()
        self._step, self._stepped, self._longest, self._said = -1, 0.0, 0.0, 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stall-watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(min(BEAT_S, self.after_s / 4)):
            try:
                beats = {int(n.removeprefix(BEATS)): self.board.get(n) for n in self.board.names(BEATS)}
                if (line := self.look({r: b for r, b in beats.items() if b is not None}, time.monotonic())) is not None:
                    log.warning("%s", line)
                    notify.tell("stalled", line)
            except Exception as e:
                log.debug("the workers' heartbeats cannot be read: %s", e)

    def look(self, beats: dict[int, dict[str, Any]], now: float) -> str | None:
        """Take in the beats of all ranks; a line for the log where the run has stood still for too long."""
        for rank, beat in beats.items():
            seen = self._seen.get(rank)
            if seen is None or seen.beat["group"] != beat["group"]:
                self._seen[rank] = _Seen(beat, now, now)
                if beat["group"] not in self._groups:
                    self._begin(beat["group"], now)
            elif beat["number"] != seen.beat["number"]:
                moved = now if beat["moves"] != seen.beat["moves"] else seen.moved
                self._seen[rank] = _Seen(beat, now, moved)
        here = {rank: seen for rank, seen in self._seen.items() if seen.beat["group"] == self._group}
        if not here:
            return None
        step = max(seen.beat["step"] for seen in here.values())
        if step != self._step:
            if self._step > 0:
                self._longest = max(self._longest, now - self._stepped)
            self._step, self._stepped, self._said = step, now, now
        limit = max(self.after_s, min(3 * self._longest, self._most))
        if now - self._said < limit:
            return None
        self._said = now
        sightings = {
            rank: Sighting(
                node=seen.beat["node"],
                step=seen.beat["step"],
                phase=seen.beat["phase"],
                waits=seen.beat["waits"],
                heard_s=now - seen.heard,
                moved_s=now - seen.moved,
            )
            for rank, seen in here.items()
        }
        return explain(sightings, seconds=now - self._stepped, beat_s=BEAT_S, remedy=self._remedy)

    def _begin(self, group: str, now: float) -> None:
        """A new start of the workers: what is known of the one before says nothing of it."""
        self._groups.add(group)
        metrics.put("raypt_train_group_starts", len(self._groups))
        self._group, self._step, self._stepped, self._said = group, -1, now, now


def new_name() -> str:
    """For a run, or for one start of its workers."""
    return uuid.uuid4().hex[:12]
