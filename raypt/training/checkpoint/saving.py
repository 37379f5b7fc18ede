"""All ranks together: when to save, and what to do when a save fails."""

import errno
import logging
import socket
import time
from collections.abc import Callable

from raypt import storage
from raypt.errors import UserError
from raypt.parallel import comm
from raypt.parallel.state import StateShard
from raypt.training.checkpoint.manifest import MANIFEST, Progress
from raypt.training.checkpoint.writer import Abandoned, CheckpointWriter

log = logging.getLogger("raypt")

_LONGEST_PAUSE_S = 30.0

_REMEDIES = {
    errno.ENOSPC: "free space there, or lower train.checkpoint.keep_last and keep_best",
    errno.EDQUOT: "raise the quota, free space there, or lower train.checkpoint.keep_last and keep_best",
    errno.EROFS: "the file system is read-only: mount it writable",
    errno.EACCES: "let the workers write there",
    errno.EPERM: "let the workers write there",
}


def explained(path: str | None, error: BaseException) -> str:
    """An error of writing with its place and what to do about it."""
    number = error.errno if isinstance(error, OSError) else None
    remedy = _REMEDIES.get(number or 0, "see to that storage")
    return f"{path}: {str(error) or repr(error)} ({remedy})"


class Saver:
    """The checkpoints of a run, on every rank. Every method is collective unless it says otherwise.

    A save that fails is known before the next step (`failed`, which the loop passes on with its other figures). The
    run goes on, since what is in memory is the only copy of the steps since the last checkpoint, and saves again: after
    one step, then two, four, ... more.
    """

    def __init__(self, writer: CheckpointWriter, rank: int, step: int) -> None:
        self.writer, self.rank = writer, rank
        self.last_step = step
        """Step of the last save begun."""
        self._pending = False
        self._failures = 0
        """In a row."""
        self._again_at: int | None = None

    @property
    def failed(self) -> bool:
        """Whether this rank's part of the last save has failed. Not collective."""
        return self.writer.error is not None

    def due(self, step: int) -> bool:
        """Whether to save after this step. Not collective; the same on every rank."""
        every = self.writer.config.every_steps
        return (every is not None and step % every == 0) or (self._again_at is not None and step >= self._again_at)

    def save(self, shard: Callable[[], StateShard], progress: Progress) -> None:
        """Begin to save, or save if that is not to be done in the background. One still under way is waited for."""
        self.settle()
        name = comm.broadcast_object(self.writer.new_name(progress.step) if self.rank == 0 else None)
        self.writer.save(name, shard(), progress)
        self.last_step, self._again_at, self._pending = progress.step, None, True
        if not self.writer.config.background:
            self.settle()

    def settle(self) -> bool:
        """Wait until the save under way is whole, or has failed on some rank: False.

        Raises:
            UserError: on every rank, if too many saves in a row have failed.
        """
        if not self._pending:
            return True
        self._pending = False
        self.writer.hurry()
        errors = self._meet(lambda: self.writer.own_part_done)
        if not any(errors):
            errors = self._meet(lambda: not self.writer.writing)
        self.writer.end(give_up=True)
        problem = next((e for e in errors if e is not None), None)
        if problem is None:
            self._failures = 0
            return True
        self._failures += 1
        self._again_at = self.last_step + 2 ** (self._failures - 1)
        comm.barrier()  # nobody writes any more
        if self.rank == 0:
            self._clear()
        most = self.writer.config.max_failed_saves
        if self._failures > most:
            raise UserError(
                f"{self._failures} checkpoints in a row could not be saved, more than train.checkpoint.max_failed_saves"
                f"={most}. The last one: {problem}. The same command resumes from the newest checkpoint that is whole"
            )
        if self.rank == 0:
            log.error(
                "step %d: the checkpoint could not be saved: %s. Trying again (attempt %d of %d)",
                self.last_step, problem, self._failures + 1, most + 1,
            )  # fmt: skip
        return False

    def finish(self, shard: Callable[[], StateShard], progress: Progress) -> None:
        """The state of the last step, saved and whole. Between attempts that fail, some time goes by instead of steps.

        Raises UserError as `settle` does.
        """
        while True:
            if self.last_step != progress.step or self._again_at is not None:
                self.save(shard, progress)
            if self.settle() and self._again_at is None:
                return
            time.sleep(min(2.0**self._failures, _LONGEST_PAUSE_S))

    def _meet(self, done: Callable[[], bool]) -> list[str | None]:
        """Wait until it is true on every rank; what has failed on each. In many short exchanges: one rank may write for
        longer than a collective may last.
        """
        pause = 0.01
        while True:
            everyone = comm.gather_objects((done(), self._explained(self.writer.error)))
            if all(ended for ended, _ in everyone):
                return [error for _, error in everyone]
            time.sleep(pause)
            pause = min(1.5 * pause, 1.0)

    def _explained(self, error: BaseException | None) -> str | None:
        if error is None or isinstance(error, Abandoned):
            return None
        where = f"rank {self.rank} on {socket.gethostname()}"
        return f"{where}: {explained(self.writer.directory, error)}"

    def _clear(self) -> None:
        """What the failed attempt has left may be what fills the disk."""
        directory = self.writer.directory
        assert directory is not None
        try:
            if not storage.exists(storage.join(directory, MANIFEST)):
                storage.remove(directory)
        except OSError as e:
            log.warning("%s: what the failed save has left could not be deleted: %s", directory, e)
