"""The dashboard of a Ray that a job starts itself: it comes up beside the work, not before it.

`ray.init` starts the dashboard, waits for it (1.5 s of one of two cores, 2.60), and starts what does the work
afterwards. Nothing of a job needs the dashboard by then.
"""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

log = logging.getLogger("raypt")

PATIENCE_S = 5.0
"""How long a dashboard that is still coming up is waited for when the job ends."""


class Dashboard:
    """Started by `start`, if `ray.init` was called in a block of `held`."""

    def __init__(self) -> None:
        self._begin: Callable[[], None] | None = None
        self._up, self._over = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A Ray that is started in the block has no dashboard yet."""
        from ray._private import node

        its: Any = node.Node
        ordinary = its.start_api_server

        def later(self_: Any, *, include_dashboard: bool | None, **options: Any) -> None:
            begin = functools.partial(ordinary, self_, include_dashboard=include_dashboard, **options)
            self._begin = functools.partial(self._start, self_, begin, include_dashboard is not False)

        its.start_api_server = later
        try:
            yield
        finally:
            its.start_api_server = ordinary

    def _start(self, node: Any, begin: Callable[[], None], shown: bool) -> None:
        try:
            begin()
            if shown:
                log.info("Ray's dashboard: http://%s", node.webui_url)
        except Exception as e:
            if self._over.is_set():
                return  # Ray was shut down before it was there
            log.warning("Ray's dashboard did not start (%s): the job goes on without it", e)
        finally:
            self._up.set()
        self._over.wait()  # Linux ends a process that is to die with its parent when the parent's *thread* ends

    @property
    def up(self) -> bool:
        """Whether it is there, or is known not to come, or was never asked for."""
        return self._thread is None or self._up.is_set()

    def start(self) -> None:
        """Start it, and say where it is when it is there."""
        if self._begin is not None:
            self._thread = threading.Thread(target=self._begin, name="raypt-dashboard", daemon=True)
            self._thread.start()

    def wait(self, timeout_s: float | None = None) -> None:
        """Until it is there, or is known not to come; Ray gives it a minute."""
        if self._thread is not None:
            self._up.wait(timeout_s)

    @contextlib.contextmanager
    def ended(self) -> Iterator[None]:
        """Ray is shut down in the block. It knows of a dashboard that is there; one that is late ends after it."""
        self.wait(PATIENCE_S)
        if not self.up:
            self._over.set()
        try:
            yield
        finally:
            self._over.set()
            if self._thread is not None:
                self._thread.join(PATIENCE_S)


_of_session: list[Dashboard] = []


@contextlib.contextmanager
def of_session(dashboard: Dashboard) -> Iterator[None]:
    """For the length of the block this is the dashboard that `wait_for_dashboard` waits for."""
    _of_session.append(dashboard)
    try:
        yield
    finally:
        _of_session.pop()


def wait_for_dashboard() -> None:
    """Until the dashboard of the job's own Ray is there, if it starts one."""
    for dashboard in _of_session:
        dashboard.wait(PATIENCE_S)
        if not dashboard.up:
            log.info("waiting for Ray's dashboard, which Ray gives a minute")
            dashboard.wait()
