"""One job at a time on a directory: a file that its holder touches, and that says who it is.

Works wherever a listing shows what was written before it: local disks, NFS, S3, GCS. No lock of the file system and no
conditional write is needed. A job writes `<id>.claim` and lists the directory. Whoever finds a `.held` file of a job
that lives is refused; of several claims the lowest id goes first, the others see it and give way. A job goes on when
two listings in a row show nobody: during a single one another's claim may become its mark, and a listing of a local
disk, which is not of one moment, can miss both. What lives is told by the storage's own clock: a file that was touched
within `STALE_S` of the claim. A holder on the same machine whose process is gone is dead at once, so that a killed job
can be started again without waiting; one on another machine is waited for until it is touched or stale.

Costs: two writes and two listings at the start; then one write every `BEAT_S`, 2,880 a day, and a listing at each
fourth of them and whenever one comes late: who is touched in time is not taken over.
"""

import json
import logging
import os
import platform
import signal
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from raypt import storage
from raypt.errors import Terminated, UserError

log = logging.getLogger("raypt")

BEAT_S = 30.0
STALE_S = 120.0
LOOK_EVERY = 4
"""Beats between two looks whether the directory is still this job's."""
"""A holder that touched its file so long ago is dead. Six beats: a slow store or a stopped process is forgiven some."""
CLAIM, HELD = ".claim", ".held"


@dataclass(frozen=True)
class Holder:
    """Who a job is, as its file says."""

    what: str
    host: str
    machine: str
    """Boot and process namespace: what makes a process id mean something."""
    pid: int
    born: float
    """When the process was started: ids are used again."""
    since: str
    """When it began, for a person."""

    @staticmethod
    def here(what: str) -> "Holder":
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            namespace = str(Path("/proc/self/ns/pid").stat().st_ino)
        except OSError:
            boot, namespace = str(psutil.boot_time()), ""
        return Holder(
            what,
            platform.node(),
            f"{platform.node()}/{boot}/{namespace}",
            os.getpid(),
            psutil.Process().create_time(),
            time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        )

    def is_gone(self) -> bool:
        """Whether this was a process of this machine that ended."""
        if self.machine != Holder.here("").machine:
            return False
        try:
            process = psutil.Process(self.pid)
            return bool(process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - self.born) > 1.0)
        except psutil.NoSuchProcess:
            return True

    def is_here(self) -> bool:
        return self.machine == Holder.here("").machine


class Lease:
    """A claim on `<uri>/<id>`, and the thread that keeps it."""

    def __init__(self, uri: str, what: str, *, beat_s: float = BEAT_S, stale_s: float = STALE_S) -> None:
        self.uri, self.beat_s, self.stale_s = uri, beat_s, stale_s
        self.id = uuid.uuid4().hex[:16]
        self.holder = Holder.here(what)
        self.lost: str | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Become the holder.

        Raises:
            UserError: another job holds it, named with its host and since when.
        """
        self._write(CLAIM)
        try:
            self._wait_for_turn()
            self._write(HELD)
        except BaseException:
            self._remove(CLAIM)
            raise
        self._remove(CLAIM)
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Let the next job have it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=self.beat_s)
        self._remove(HELD)

    def _wait_for_turn(self) -> None:
        said = False
        seen: dict[str, float] = {}
        deadline = time.monotonic() + self.stale_s + 2 * self.beat_s
        alone = 0
        while True:
            there = storage.list_touched(self.uri)
            now = there.get(self.id + CLAIM, 0.0)  # it was just written; not seen, nobody counts as gone
            waiting = moved = False
            for name in self._others(there):
                touched, holder = there[name], self._read(name)
                if holder is None and name not in storage.listdir(self.uri):
                    moved = True  # a claim that ended since the listing: what came of it is in the next one
                    continue
                if touched < now - self.stale_s or (holder is not None and holder.is_gone()):
                    log.warning("%s: taking over from a job that is gone: %s", self.uri, _describe(holder))
                    storage.remove_file(storage.join(self.uri, name))
                    continue
                first = seen.setdefault(name, touched)
                alive = touched > first or (holder is not None and holder.is_here())
                if name.endswith(HELD) and alive:
                    raise UserError(self._refusal(holder))
                if name.endswith(CLAIM) and name < self.id:
                    raise UserError(self._refusal(holder))
                waiting = True
                if not said:
                    log.info("%s is held by %s: waiting to see whether it lives", self.uri, _describe(holder))
                    said = True
            alone = 0 if waiting or moved else alone + 1
            if alone == 2:
                return
            if not waiting:
                continue
            if time.monotonic() > deadline:
                raise UserError(self._refusal(None))
            time.sleep(min(1.0, self.beat_s / 4))
            self._write(CLAIM)  # the storage's present time

    def _refusal(self, holder: Holder | None) -> str:
        return (
            f"another job works in this run directory: {_describe(holder)} (its mark is in {self.uri}). Wait for its "
            "end or stop it; if it is dead, its mark is taken over on its own machine at once and on others "
            f"{self.stale_s:.0f} s after it was last touched"
        )

    def _beat(self) -> None:
        beats, touched = 0, time.time()
        while not self._stop.wait(self.beat_s):
            beats += 1
            in_time = 0 <= time.time() - touched < 2 * self.beat_s
            try:
                if (beats % LOOK_EVERY == 0 or not in_time) and (usurper := self._usurper()) is not None:
                    self._lose(usurper[0])
                    return
                self._write(HELD)
                touched = time.time()
            except Exception as e:  # the storage may come back; if not in time, the next job takes over
                log.warning("%s: the lease could not be kept: %s: %s", self.uri, type(e).__name__, e)

    def _usurper(self) -> tuple[Holder | None] | None:
        """Who has the directory now, as far as that is to be read; None: this job."""
        there = storage.listdir(self.uri)
        usurpers = [name for name in self._others(there) if name.endswith(HELD)]
        if not usurpers and self.id + HELD in there:
            return None
        return (self._read(usurpers[0]) if usurpers else None,)

    def _lose(self, holder: Holder | None) -> None:
        """Two jobs in one directory would spoil each other's work: this one, which was away too long, ends."""
        self.lost = f"this job was away for so long that another took its run directory: {_describe(holder)}"
        log.error("%s: %s", self.uri, self.lost)
        os.kill(os.getpid(), signal.SIGTERM)

    def _path(self, state: str) -> str:
        return storage.join(self.uri, self.id + state)

    def _write(self, state: str) -> None:
        storage.write_json(self._path(state), asdict(self.holder))

    def _remove(self, state: str) -> None:
        try:
            storage.remove_file(self._path(state))
        except Exception as e:  # it goes stale
            log.warning("%s: the mark of this job could not be removed: %s", self.uri, e)

    def _others(self, there: Iterable[str]) -> list[str]:
        return [n for n in there if n.endswith((CLAIM, HELD)) and not n.startswith(self.id)]

    def _read(self, name: str) -> Holder | None:
        try:
            return Holder(**json.loads(storage.read_bytes(storage.join(self.uri, name))))
        except (FileNotFoundError, ValueError, TypeError):
            return None


def _describe(holder: Holder | None) -> str:
    if holder is None:
        return "an unknown job"
    return f"{holder.what} on {holder.host}, process {holder.pid}, since {holder.since}"


@contextmanager
def hold(uri: str, what: str, *, beat_s: float = BEAT_S, stale_s: float = STALE_S) -> Iterator[Lease]:
    """Hold the lease `uri` (a directory of its own) for the length of a block; `what` names the job to others.

    Raises:
        UserError: another job holds it.
    """
    lease = Lease(uri, what, beat_s=beat_s, stale_s=stale_s)
    lease.acquire()
    try:
        yield lease
    except KeyboardInterrupt:
        if lease.lost is None:
            raise
        raise Terminated(lease.lost) from None
    finally:
        lease.release()


def holder_of(uri: str) -> tuple[Holder, float] | None:
    """Who holds a directory now, and the seconds since it was touched; None if nobody does, or who does is dead."""
    for name, touched in storage.list_touched(uri).items():
        if not name.endswith(HELD):
            continue
        try:
            holder = Holder(**storage.read_json(storage.join(uri, name)))
        except (FileNotFoundError, ValueError, TypeError, UserError):
            continue
        age = time.time() - touched
        if age < STALE_S and not holder.is_gone():
            return holder, max(age, 0.0)
    return None
