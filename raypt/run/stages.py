"""The stages of a run: a line at the start of each, with its place among them and what the one before took, which is
kept for the report."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field

from raypt import metrics, storage
from raypt.cluster_use import USE
from raypt.curation.perplexity.config import Perplexity
from raypt.durations import duration
from raypt.run.config import RunConfig
from raypt.run.diary import count_of_starts, outlooks, stage_begins
from raypt.run.outlook import Outlook
from raypt.run_dir import RunDir

log = logging.getLogger("raypt")


_before: list[str] = []
"""What the stage before took, for the next one's line."""
observers: list[Callable[[str], AbstractContextManager[None]]] = []
"""What else is opened around each stage, with its name: benchmarks measure there."""
on_end: list[Callable[[], None]] = []
"""What is called when a stage has ended well, and its figures are kept."""


def planned(job: str, config: RunConfig) -> list[str]:
    """The stages that a job is going to have, in order; of a job that has none, nothing."""
    if job not in ("curate", "tokenize", "pretrain"):
        return []
    if job == "tokenize" and config.tokens.megatron:
        return ["tokenize"]
    perplexities = [s for s in config.curation.plan() if isinstance(s.settings, Perplexity) and s.settings.enabled]
    names = ["manifest", "quality", *("perplexity" for _ in perplexities), "curate", "decide"]
    names += ["dedup", "write"] if config.dedup.enabled else ["write"]
    if job == "tokenize":
        names += ["tokenizer", "tokenize", *(["export tokens"] if config.tokens.export.formats else [])]
    return [*names, "tokenizer", "train", "export"] if job == "pretrain" else names


@dataclass
class _Course:
    """The stages that a job in this process has, and those it has had."""

    ahead: list[str]
    outlook: Outlook
    began: float
    before: list[str] = field(default_factory=list)

    def place(self, name: str) -> tuple[int, int] | None:
        """Which of how many a stage is that begins now; None of one that nobody planned."""
        earlier = self.before.count(name)
        self.before.append(name)
        places = [i for i, planned in enumerate(self.ahead) if planned == name]
        return (places[earlier] + 1, len(self.ahead)) if earlier < len(places) else None


_courses: dict[str, _Course] = {}
"""By run."""


@contextmanager
def course(config: RunConfig, run: RunDir, names: list[str]) -> Iterator[None]:
    """For the length of the block, the stages of the run are told by their place among these, and with how long the
    whole will still take."""
    along = _courses[run.uri] = _Course(names, Outlook(config, run, names), time.time())
    outlooks[run.uri] = along.outlook
    try:
        yield
    finally:
        del _courses[run.uri], outlooks[run.uri]


@contextmanager
def timed_stage(run: RunDir, name: str) -> Iterator[dict[str, float]]:
    """Log a stage's start and end, and keep its wall seconds and what the block reports in `work/stages/<name>.json`.

    A stage that had been done already when the run was resumed is quick the second time: the first figure is kept. Of
    one that fails nothing is kept but a line in the log that names it.
    """
    along = _courses.get(run.uri)
    place = along.place(name) if along else None
    said = [_before.pop()] if _before else []
    if along and len(along.before) > 1:
        said.append(f"{duration(time.time() - along.began)} so far")
    if along and place:
        along.outlook.begins(place[0])
    ahead = stage_begins(run, name, place)
    said += [ahead] if ahead else []
    of = f", {place[0]} of {place[1]}" if place else ""
    log.info("== %s%s%s", name, of, f" ({', '.join(said)})" if said else "")
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
        if along and place:
            along.outlook.ended(figures["seconds"], figures)
        _before[:] = [f"{name} took {figures['seconds']:.1f} s"]
        uri = run.path("work", "stages", f"{name}.json")
        first = run.new and along is not None and along.before.count(name) == 1
        if first or not storage.is_file(uri):
            storage.write_json(uri, figures)
        for ended in on_end:
            ended()
