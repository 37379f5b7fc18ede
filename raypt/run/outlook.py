"""How long a run will still take, told before its stages have begun.

A stage of data takes its start, and CPU seconds by the byte of the text: first by what was measured
(docs/performance.md), then corrected by what this start's stages have taken so far, and in the midst of one by how far
it says it is. Training takes its steps at the pace of an earlier start, or at the one that the planner gives the layout
(`raypt plan`; its guess of a CPU is set right by a matrix product). It is a forecast: good for a decision whether to
wait, and wrong by half where inputs are unlike those that were measured.
"""

import functools
import logging
import os
import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from raypt import storage
from raypt.corpus.cutting import InputFile
from raypt.durations import RECENT
from raypt.errors import UserError
from raypt.progress import Done
from raypt.run.config import RunConfig
from raypt.run.diary import count_of_starts
from raypt.run_dir import RunDir
from raypt.tasks import cluster_cpus
from raypt.training.checkpoint.directory import newest_step
from raypt.training.records import read_last_metrics

if TYPE_CHECKING:
    from raypt.run.planner.cluster import Machines

log = logging.getLogger("raypt")

START_S = {"manifest": 1.0, "quality": 4.0, "curate": 5.0, "tokenizer": 3.0, "train": 20.0, "export": 2.0}
"""Of a stage, whatever the size of its input; 1 s of the others."""
CPU_S_PER_MB = {"curate": 0.16, "decide": 0.004, "dedup": 0.03, "write": 0.04, "tokenizer": 0.03, "tokenize": 0.05}
"""Of text, before curation."""
THERE_S = 1.0
"""Of a stage that an earlier start has done."""
PACKED = {"gz": 3.0, "zst": 3.5, "bz2": 4.0, "xz": 4.0, "parquet": 2.0}
"""Bytes unpacked of a stored byte, by what a file's name has in it: where nothing was read yet."""
OF_PAGES = 0.25
"""Bytes of text of a byte of web pages (`.warc`)."""
MOST_SCALE = 30.0
"""By which a forecast is corrected at most, either way."""
LEAST_TOLD = 0.05
"""Share of a work from which on its pace is believed."""
WHOLE = frozenset({"curate", "decide", "write", "tokenize"})
"""Stages of one work, whose progress is theirs; the others have several, one after the other."""


@dataclass
class Outlook:
    """Of one start of a job."""

    config: RunConfig
    run: RunDir
    stages: list[str]
    """That the job is going to have."""
    _at: int = field(default=-1, init=False)
    _since: float = field(default=0.0, init=False)
    _there: frozenset[str] = field(default=frozenset(), init=False)
    _first: bool = field(default=True, init=False)
    """Whether no earlier start may have done a part of a stage, so that what one takes is what all of it takes."""
    _bytes: float | None = field(default=None, init=False)
    """Of text."""
    _training_s: float | None = field(default=None, init=False)
    _ended: list[tuple[float, float]] = field(default_factory=list, init=False)
    """Of stages of data of this start: seconds they were expected to take, and took."""

    def begins(self, place: int) -> None:
        """The stage of this place (the first is 1) begins."""
        if self._at < 0:
            there = [] if self.run.new else storage.listdir(self.run.path("work", "stages"))
            self._there = frozenset(found.removesuffix(".json") for found in there)
            self._first = count_of_starts(self.run) <= 1
            self._training_s = training_seconds(self.config, self.run) if "train" in self.stages else 0.0
        self._at, self._since = place - 1, time.time()

    def ended(self, seconds: float, figures: Mapping[str, float]) -> None:
        """The stage that began last has ended well."""
        name = self.stages[self._at]
        if self._first and name in CPU_S_PER_MB and self._bytes is not None:
            self._ended.append((self._of_data(name), max(seconds - START_S.get(name, 1.0), 0.0)))
        if name == "manifest":
            self._bytes = figures.get("expected_text_bytes")
        elif name == "curate" and figures.get("bytes"):
            self._bytes = figures["bytes"]

    def _of_data(self, name: str) -> float:
        """On the CPUs that there are now: nodes come and go."""
        cpus = max(cluster_cpus(), 1.0) if ray.is_initialized() else 1.0
        return CPU_S_PER_MB.get(name, 0.0) * (self._bytes or 0.0) / 1e6 / cpus

    @property
    def _scale(self) -> float:
        expected, took = (sum(column) for column in zip(*self._ended, strict=True)) if self._ended else (0.0, 0.0)
        # As if one second had gone as expected: of next to nothing nothing is learnt.
        return min(max((took + 1) / (expected + 1), 1 / MOST_SCALE), MOST_SCALE)

    def _expected(self, name: str, scale: float) -> float:
        training = (self._training_s or 0.0) if name == "train" else 0.0
        if name in self._there and not training:  # of a run that has more steps now than it had, training is not done
            return THERE_S
        return START_S.get(name, 1.0) + self._of_data(name) * scale + training

    def left(self, told: Done | None = None) -> float | None:
        """Seconds to the end of the last stage, or to that of the last before training where nothing is known of how
        fast it will be; None as long as nothing is known of the input, or of the nodes that will come for it. `told`:
        how far a work of the stage is.
        """
        if self._at < 0 or self._bytes is None:
            return None
        if self.config.ray.autoscaling and told is None and not self._ended:
            return None
        name, gone, scale = self.stages[self._at], time.time() - self._since, self._scale
        here = max(self._expected(name, scale) - gone, 0.0)
        if told is not None and _stage_of(told.name) == name and (more := told.left_s) is not None:
            if name in WHOLE and told.done >= LEAST_TOLD * told.total:
                here = more
                if self._first and (expected := self._of_data(name)) > 1:
                    scale = min(max((gone + more) / expected, 1 / MOST_SCALE), MOST_SCALE)
            else:
                here = max(here, more)
        ahead = self.stages[self._at + 1 :]
        if not self.whole:
            ahead = ahead[: ahead.index("train")] if "train" in ahead else ahead
        return here + sum(self._expected(stage, scale) for stage in ahead)

    @property
    def whole(self) -> bool:
        """Whether `left` is that of the whole run."""
        return self._training_s is not None


def _stage_of(work: str) -> str:
    """The stage that a work says by its name it is of."""
    return work.partition(":")[0].partition(" ")[0]


def expected_text_bytes(files: Iterable[InputFile]) -> float:
    """Bytes of text of input files that nobody has read, by their sizes and names; 0.3 s for a million of them."""
    return sum(f.size * _expands(f.format, f.path[f.path.rfind("/") + 1 :].partition(".")[2]) for f in files)


@functools.lru_cache(maxsize=1024)
def _expands(kind: str, suffixes: str) -> float:
    parts = {kind, *suffixes.lower().split(".")}
    return max([1.0, *(PACKED[part] for part in parts & PACKED.keys())]) * (OF_PAGES if "warc" in parts else 1.0)


def training_seconds(config: RunConfig, run: RunDir) -> float | None:
    """Of the steps that are left; None where nobody knows how long one takes."""
    try:
        done = 0 if run.new else newest_step(run.path("checkpoints"))
        left = max(config.train.steps - done, 0)
        if done and (rows := read_last_metrics(run.uri)):
            return left * float(statistics.median_low(row["step_s"] for row in rows[-RECENT:]))
        if config.train.strategy != "collective" or config.train.init is not None:
            return None
        return left * _planned_step(config)
    except Exception as e:  # what is wrong is said by those whose it is; nothing depends on a forecast
        log.debug("nothing is known of a step's time: %s: %s", type(e).__name__, e)
        return None


def _planned_step(config: RunConfig) -> float:
    """Seconds of a step of this layout by the planner, on the devices that there are."""
    from raypt.run.planner.answer import job_of, own_layout  # here: a job that does not train needs none of it
    from raypt.run.planner.search import judge

    gpu, workers = config.train.use_gpu, config.train.worker_range[1]
    machines = _machines(config, workers, gpu=gpu)
    plan = judge(job_of(config, gpu=gpu), own_layout(config, workers, gpu=gpu), machines.device, machines.per_node)
    return plan.step_s


def _machines(config: RunConfig, workers: int, *, gpu: bool) -> "Machines":
    from raypt.run.planner.catalogue import ACCELERATORS
    from raypt.run.planner.cluster import of_nodes, of_workers
    from raypt.run.planner.refusal import capacity

    machines = of_workers(workers, config.plan, gpu=gpu)
    if not gpu:
        cores = len(os.sched_getaffinity(0))
        threads = min(config.train.threads, max(1.0, cores / workers))
        cpu = ACCELERATORS["cpu"]
        return replace(machines, device=replace(cpu, flops=_core_flops(cores) * threads / cpu.constants.efficiency))
    nodes = ray.nodes() if ray.is_initialized() else []
    if not capacity(nodes, gpu=True):
        raise UserError("the cluster has no GPU of a kind that the planner knows")
    return replace(machines, device=of_nodes(nodes, config.plan, gpu=True).device)


def _core_flops(cores: int) -> float:
    """Of a product of float32 matrices on all cores, a core: the best of some, 0.1 s in all."""
    a: np.ndarray[Any, Any] = np.ones((768, 768), np.float32)
    best = np.inf
    for _ in range(5):
        begun = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - begun)
    return 2 * len(a) ** 3 / best / cores
