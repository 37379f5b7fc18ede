"""The report of a run that goes on: written anew after each stage, and every few minutes within a long one.

A thread of the driver does it, so no stage waits for a page, and an error in one is a line in the log. On an object
store a page is a few dozen requests, whatever the run's size: never more than one in twice `APART_S`.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from raypt.run import stages

log = logging.getLogger("raypt")

EVERY_S = 300.0
"""Between two pages within a stage."""
APART_S = 30.0
"""Between any two pages, twice as long on an object store: of stages that end sooner one after the other the last is
waited for."""
SHARE = 0.02
"""Of the time that may go into pages: one that takes a minute, of a run of millions of steps, comes every fifty."""
PATIENCE_S = 20.0
"""How long the end of a run waits for a page that is being made."""


class LivePage:
    """The thread. `build` makes the page (None: there is nothing to show yet), `put` writes it."""

    def __init__(
        self,
        build: Callable[[], bytes | None],
        put: Callable[[bytes], None],
        *,
        every_s: float,
        apart_s: float,
    ) -> None:
        self.build, self.put, self.every_s, self.apart_s = build, put, every_s, apart_s
        self._ended, self._stage_ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-page", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stage_ended(self) -> None:
        """There is news: the next page comes as soon as it may."""
        self._stage_ended.set()

    def stop(self) -> None:
        """No page is written by this thread from here on, unless it hangs in the midst of writing one."""
        self._ended.set()
        self._stage_ended.set()
        self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        took = 0.0
        while not self._ended.wait(max(self.apart_s, took / SHARE)):
            self._stage_ended.wait(max(0.0, self.every_s - self.apart_s))
            self._stage_ended.clear()
            if self._ended.is_set():
                return
            began = time.monotonic()
            try:
                page = self.build()
                if page is not None and not self._ended.is_set():
                    self.put(page)
            except Exception as e:
                log.warning("report.html could not be written: %s: %s", type(e).__name__, e)
            took = time.monotonic() - began


@contextmanager
def kept_up(build: Callable[[], bytes | None], put: Callable[[bytes], None], *, local: bool) -> Iterator[None]:
    """A page of the run that is open for the length of the block. `local`: whether its directory is."""
    page = LivePage(build, put, every_s=EVERY_S, apart_s=APART_S if local else 2 * APART_S)
    page.start()
    stages.on_end.append(page.stage_ended)
    try:
        yield
    finally:
        stages.on_end.remove(page.stage_ended)
        page.stop()
