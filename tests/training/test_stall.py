"""Who holds the others up."""

from dataclasses import asdict, replace

import pytest

from raypt import metrics
from raypt.parallel.pulse import Beat, Pulse
from raypt.training.on_ray.watch import Watch
from raypt.training.stall import Sighting, explain

SEEN = Sighting(node="a", step=17, phase="backward", waits=True, heard_s=1, moved_s=60)


def words(ranks: dict[int, Sighting]) -> str:
    return explain(ranks, seconds=60, beat_s=2, remedy="Wait.")


def test_a_rank_that_is_not_heard_of_is_suspected_first() -> None:
    ranks = {0: SEEN, 1: replace(SEEN, node="b", heard_s=59), 2: replace(SEEN, waits=False)}
    assert words(ranks) == (
        "no step for 60 s: rank 1 on node b last seen in backward of step 17, not heard of for 59 s (its process "
        "hangs, or its node is cut off); the other 2 in backward. Wait."
    )


def test_else_the_one_that_is_not_in_a_collective_while_others_are() -> None:
    ranks = dict.fromkeys(range(512), SEEN) | {300: replace(SEEN, node="c", phase="waiting for samples", waits=False)}
    assert words(ranks) == (
        "no step for 60 s: rank 300 on node c last seen in waiting for samples of step 17 for 60 s; the other 511 in "
        "backward. Wait."
    )


def test_else_the_one_that_is_furthest_behind() -> None:
    ranks = {0: SEEN, 1: replace(SEEN, step=16, node="b"), 2: SEEN}
    assert "rank 1 on node b last seen in backward of step 16 for 60 s, in a collective; the other 2" in words(ranks)


def test_many_suspects_are_not_all_listed() -> None:
    ranks = {r: replace(SEEN, heard_s=50) for r in range(100)}
    assert "rank 2 on" in words(ranks) and "rank 3 on" not in words(ranks) and "and 97 more" in words(ranks)


def test_a_pulse_counts_what_is_begun() -> None:
    pulse = Pulse()
    pulse.at("forward", 3)
    pulse.at("backward")
    assert pulse.beat() == Beat(step=3, phase="backward", waits=False, moves=2)


class Ranks:
    """Two ranks of one start that beat every second, and the watch that sees them."""

    def __init__(self, timeout_s: float = 100) -> None:
        self.watch = Watch(None, after_s=10, timeout_s=timeout_s)  # type: ignore[arg-type]
        self.now, self.number, self.group = 0.0, 0, "first"

    def second(self, *steps: int, silent: int | None = None) -> str | None:
        self.now += 1
        self.number += silent is None
        beats = {
            rank: {**asdict(Beat(step, "forward", True, step)), "node": "n", "group": self.group, "number": self.number}
            for rank, step in enumerate(steps)
            if rank != silent
        }
        return self.watch.look(beats, self.now)


def test_a_run_that_steps_is_not_spoken_of() -> None:
    ranks = Ranks()
    assert [ranks.second(i, i) for i in range(1, 60)] == [None] * 59


def test_standing_still_is_said_once_in_each_interval() -> None:
    ranks = Ranks()
    for step in range(1, 6):
        ranks.second(step, step)
    said = [i for i in range(1, 31) if ranks.second(5, 5) is not None]
    assert said == [10, 20, 30]


def test_where_steps_are_long_more_time_goes_by_before_a_word() -> None:
    ranks = Ranks()
    for step in (1, 2, 3):
        for _ in range(8):
            assert ranks.second(step, step) is None
    said = [i for i in range(1, 30) if ranks.second(3, 3) is not None]
    assert said == [24 - 8 + 1]  # three times the longest step


def test_a_word_comes_before_the_group_is_ended_however_long_steps_are() -> None:
    """Later the ranks that waited are gone too, and nobody can be told from the one that hangs."""
    ranks = Ranks(timeout_s=32)
    for step in (1, 2, 3):
        for _ in range(8):
            ranks.second(step, step)
    said = [i for i in range(1, 30) if ranks.second(3, 3) is not None]
    assert said == [16 - 8 + 1, 32 - 8 + 1]


def test_another_start_of_the_workers_begins_anew() -> None:
    ranks = Ranks()
    for _ in range(9):
        ranks.second(7, 7)
    ranks.group = "second"
    assert [ranks.second(6, 6) for _ in range(9)] == [None] * 9
    line = ranks.second(6, 6) or ranks.second(6, 6)
    assert line is not None and "of step 6" in line


def test_every_start_of_the_workers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float]] = []
    monkeypatch.setattr(metrics, "put", lambda name, value: told.append((name, value)))
    ranks = Ranks()
    for ranks.group in ("first", "first", "second", "second", "third"):
        ranks.second(1, 1)
    assert told == [("raypt_train_group_starts", n) for n in (1, 2, 3)]
