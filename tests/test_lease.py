"""One job at a time on a directory: who is refused, who takes over, what is left."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path

import fsspec
import pytest

from raypt import storage
from raypt.errors import Terminated, UserError
from raypt.lease import CLAIM, HELD, Holder, Lease, hold
from raypt.run.job import terminable

ROOT = Path(__file__).parents[1]
BEAT_S, STALE_S = 0.2, 1.2
ELSEWHERE = replace(Holder.here("another job"), host="far", machine="far/boot/1")
"""A holder whose process cannot be looked at from here."""


@pytest.fixture(params=["local", "memory"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A directory on a disk, and one of an object store: nothing but whole files and listings."""
    return str(tmp_path / "lease") if request.param == "local" else f"memory://{tmp_path.name}/lease"


def mark(uri: str, name: str, holder: Holder) -> str:
    place = storage.join(uri, name)
    storage.write_json(place, asdict(holder))
    return place


def touched_for(place: str, holder: Holder, seconds: float) -> threading.Thread:
    """Keep a mark alive from elsewhere."""

    def beat() -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(BEAT_S)
            storage.write_json(place, asdict(holder))

    thread = threading.Thread(target=beat)
    thread.start()
    return thread


def test_a_second_job_is_refused_and_a_third_after_the_first_is_not(uri: str) -> None:
    with (
        hold(uri, "pretrain", beat_s=BEAT_S, stale_s=STALE_S),
        pytest.raises(UserError, match=f"another job works in this run directory: pretrain on .*process {os.getpid()}"),
        hold(uri, "curate", beat_s=BEAT_S, stale_s=STALE_S),
    ):
        raise AssertionError("two jobs hold it")
    with hold(uri, "curate", beat_s=BEAT_S, stale_s=STALE_S):
        assert len(storage.listdir(uri)) == 1
    assert storage.listdir(uri) == []


def test_a_holder_elsewhere_that_is_touched_is_alive(uri: str) -> None:
    place = mark(uri, f"f{HELD}", ELSEWHERE)
    beating = touched_for(place, ELSEWHERE, 3.0)
    start = time.monotonic()
    with pytest.raises(UserError, match="another job on far"):
        Lease(uri, "curate", beat_s=BEAT_S, stale_s=STALE_S).acquire()
    assert time.monotonic() - start < STALE_S
    beating.join()


def test_a_holder_elsewhere_that_is_not_touched_is_taken_over_when_stale(uri: str) -> None:
    mark(uri, f"f{HELD}", ELSEWHERE)
    start = time.monotonic()
    with hold(uri, "curate", beat_s=BEAT_S, stale_s=STALE_S):
        assert STALE_S / 2 < time.monotonic() - start < 3 * STALE_S
        assert len(storage.listdir(uri)) == 1


def test_a_holder_that_was_killed_on_this_machine_is_taken_over_at_once(uri: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    code = "import json; from dataclasses import asdict; from raypt.lease import Holder as H; "
    code += "print(json.dumps(asdict(H.here('x'))))"
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    mark(uri, f"f{HELD}", Holder(**json.loads(dead.stdout)))
    # A process id that is used again is another process.
    mark(uri, f"g{HELD}", replace(Holder.here("y"), pid=child.pid, born=1.0))
    start = time.monotonic()
    with hold(uri, "curate"):  # with the real times, of minutes
        assert time.monotonic() - start < 5
    child.kill()
    child.wait()


def test_of_many_that_start_together_one_goes_on(uri: str) -> None:
    """Each waits for the others' claims; what is refused says so, and nobody waits for ever."""
    results: list[str] = []
    inside: list[int] = []
    most = 0
    begin = threading.Barrier(8)

    def job() -> None:
        nonlocal most
        begin.wait()
        try:
            with hold(uri, "curate", beat_s=BEAT_S, stale_s=60):
                inside.append(1)
                most = max(most, len(inside))
                time.sleep(1.0)
                inside.pop()
                results.append("done")
        except UserError:
            results.append("refused")

    threads = [threading.Thread(target=job) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == 1
    assert len(results) == 8
    assert results.count("done") >= 1


@pytest.mark.parametrize("seen", ["its claim", "nothing"])
def test_a_claim_that_becomes_the_holder_during_a_listing_is_not_overlooked(uri: str, seen: str) -> None:
    """A listing shows the claim alone; or, as a local disk's may, neither it nor the mark that came meanwhile."""
    first = Lease(uri, "first", beat_s=BEAT_S, stale_s=60)
    first.id = "f" * 16
    first._write(CLAIM)

    class Late(Lease):
        listed = 0

        def _others(self, there: Iterable[str]) -> list[str]:
            names = super()._others(there)
            self.listed += 1
            if self.listed > 1:
                return names
            first._write(HELD)
            first._remove(CLAIM)
            return names if seen == "its claim" else []

    late = Late(uri, "late", beat_s=BEAT_S, stale_s=60)
    late.id = "0" * 16  # goes before the first, did that not hold it already
    with pytest.raises(UserError, match="first on"):
        late.acquire()
    assert late.listed == 2
    first.release()


def test_a_claim_waits_for_a_higher_one_and_gives_way_to_a_lower(uri: str) -> None:
    lower = mark(uri, f"0{CLAIM}", Holder.here("early"))
    with pytest.raises(UserError, match="early on"):
        Lease(uri, "late", beat_s=BEAT_S, stale_s=60).acquire()
    storage.remove(lower)
    higher = mark(uri, f"g{CLAIM}", Holder.here("late"))
    threading.Timer(1.0, storage.remove, [higher]).start()
    start = time.monotonic()
    with hold(uri, "early", beat_s=BEAT_S, stale_s=60):
        assert time.monotonic() - start > 0.5


def test_a_claim_gives_way_when_the_higher_one_becomes_the_holder(uri: str) -> None:
    mark(uri, f"g{CLAIM}", Holder.here("first"))
    threading.Timer(0.5, mark, [uri, f"g{HELD}", Holder.here("first")]).start()
    with pytest.raises(UserError, match="first on"):
        Lease(uri, "second", beat_s=BEAT_S, stale_s=60).acquire()
    assert sorted(storage.listdir(uri)) == [f"g{CLAIM}", f"g{HELD}"]


def test_a_holder_that_was_away_while_another_took_over_ends(uri: str) -> None:
    with (
        terminable(),
        pytest.raises(Terminated, match="another took its run directory: another job on far"),
        hold(uri, "pretrain", beat_s=BEAT_S, stale_s=STALE_S),
    ):
        mark(uri, f"f{HELD}", ELSEWHERE)
        time.sleep(10)
        raise AssertionError("it went on beside the other")


def test_a_store_that_fails_for_a_while_loses_nothing(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., None] = storage.write_json
    failures = 0

    def failing(place: str, value: object) -> None:
        nonlocal failures
        if failures < 3 and threading.current_thread().name == "lease":
            failures += 1
            raise OSError("503 Slow Down")
        real(place, value)

    with hold(uri, "pretrain", beat_s=BEAT_S, stale_s=STALE_S) as lease:
        monkeypatch.setattr(storage, "write_json", failing)
        time.sleep(6 * BEAT_S)
        assert failures == 3
        assert lease.lost is None
        assert len(storage.listdir(uri)) == 1


def test_a_mark_that_is_no_holder_is_waited_for_and_taken_over(uri: str) -> None:
    fs, path = fsspec.core.url_to_fs(storage.join(uri, f"f{HELD}"))
    fs.makedirs(fs._parent(path), exist_ok=True)
    fs.pipe(path, b"\xff{")
    with hold(uri, "curate", beat_s=BEAT_S, stale_s=STALE_S):
        assert len(storage.listdir(uri)) == 1


def test_two_processes_of_one_machine_see_each_other(tmp_path: Path) -> None:
    uri = str(tmp_path / "l")
    code = f"from raypt.lease import hold\nwith hold({uri!r}, 'pretrain'):\n print('in', flush=True)\n input()"
    first = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "in\n"
    with pytest.raises(UserError, match=f"process {first.pid}"), hold(uri, "curate"):
        raise AssertionError("two jobs hold it")
    first.send_signal(signal.SIGKILL)
    first.wait()
    with hold(uri, "curate"):
        assert len(storage.listdir(uri)) == 1
