"""Ending a run before its last step: the driver is told to, the workers save and stop, the driver ends."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from raypt.training.on_ray.board import BEATS, STOP, STOPPED, Board

log = logging.getLogger("raypt")


def stoppable(fit: Callable[[], object], board: Board, timeout_s: float) -> None:
    """Run `fit` (Ray Train's) to its end; on SIGTERM or Ctrl-C, wait for a last checkpoint first, then raise.

    `fit` runs on a thread of its own: on the main one, Ray Train would take Ctrl-C for itself and end the workers at
    once. When this raises, the thread and the controller it waits for are left to the end of the process's Ray.
    """
    done: Future[None] = Future()

    def run() -> None:
        try:
            fit()
            done.set_result(None)
        except BaseException as e:
            done.set_exception(e)

    threading.Thread(target=run, name="fit", daemon=True).start()
    try:
        done.result()
    except KeyboardInterrupt:
        await_last_checkpoint(board, done, timeout_s)
        raise


def await_last_checkpoint(board: Board, done: "Future[None]", timeout_s: float) -> None:
    """Ask the workers to save and stop, and wait until they have; not at all where none has begun to train."""
    if not board.names(BEATS):
        log.warning("asked to end before training began: there is nothing to save")
        return
    log.warning("asked to end: saving a last checkpoint, for at most train.stop_timeout_s=%g s", timeout_s)
    board.put(STOP, True)
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if (step := board.get(STOPPED)) is not None:
            log.warning("the checkpoint of step %d is whole; the same command resumes there", step)
            return
        if done.done():
            log.error("the workers ended without a last checkpoint: %s", done.exception() or "none was due")
            return
        time.sleep(0.1)
    log.error("no checkpoint within train.stop_timeout_s=%g s: the last one before stays the newest", timeout_s)
