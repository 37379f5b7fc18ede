"""The stages of a run: a line at the start of each, with what the one before took, which is kept for the report."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from raypt import metrics, storage
from raypt.cluster_use import USE
from raypt.run.diary import count_of_starts, stage_begins
from raypt.run_dir import RunDir

log = logging.getLogger("raypt")


_before: list[str] = []
"""What the stage before took, for the next one's line."""
observers: list[Callable[[str], AbstractContextManager[None]]] = []
"""What else is opened around each stage, with its name: benchmarks measure there."""
on_end: list[Callable[[], None]] = []
"""What is called when a stage has ended well, and its figures are kept."""


@contextmanager
def timed_stage(run: RunDir, name: str) -> Iterator[dict[str, float]]:
    """Log a stage's start and end, and keep its wall seconds and what the block reports in `work/stages/<name>.json`.

    A stage that had been done already when the run was resumed is quick the second time: the first figure is kept. Of
    one that fails nothing is kept but a line in the log that names it.
    """
    log.info("== %s%s", name, f" ({_before.pop()})" if _before else "")
    stage_begins(run, name)
    USE.stage(name)
    metrics.put("raypt_starts", count_of_starts(run))
    metrics.put("raypt_stage_running", 1, stage=name)
    start = time.time()
    figures: dict[str, float] = {}
    with ExitStack() as stack:
        for observer in observers:
            stack.enter_context(observer(name))
        try:
            yield figures
        except BaseException as e:
            log.error("== %s ended after %.1f s: %s", name, time.time() - start, type(e).__name__)
            raise
        finally:
            metrics.put("raypt_stage_running", 0, stage=name)
            metrics.put("raypt_stage_seconds", time.time() - start, stage=name)
        figures |= {"started": start, "seconds": time.time() - start}
        _before[:] = [f"{name} took {figures['seconds']:.1f} s"]
        uri = run.path("work", "stages", f"{name}.json")
        if not storage.is_file(uri):
            storage.write_json(uri, figures)
        for ended in on_end:
            ended()
