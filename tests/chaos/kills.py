"""SIGKILL at random moments over all stages of the main job: actors, tasks, ranks, raylets, the driver."""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from raypt import storage
from tests.chaos.world import STAGES, STEPS, Job, Nodes, differences, name_of, wait_until

A_ROUND = 8
"""Kills of one run from raw text to export; the next ones meet another run."""
VICTIMS = ("worker", "driver", "raylet", "rank")


@dataclass(frozen=True)
class Moment:
    """When to kill: at a share of what a stage takes, or of the steps."""

    stage: str
    share: float


def plan(rng: random.Random, count: int, stages: dict[str, float]) -> list[Moment]:
    """So many moments, in order. Half are spread over the run's seconds, half over its stages, which are as short as
    a tenth of a second.
    """
    names = [name for name in STAGES if stages.get(name, 0) > 0.05]
    drawn = []
    for i in range(count):
        weights = [stages[name] for name in names] if i % 2 else None
        drawn.append(Moment(rng.choices(names, weights)[0], rng.random()))
    return sorted(drawn, key=lambda moment: (STAGES.index(moment.stage), moment.share))


def stage_seconds(run: Path) -> dict[str, float]:
    """What each stage of a finished run took."""
    uri = str(run / "work" / "stages")
    found = {name.removesuffix(".json"): storage.read_json(f"{uri}/{name}") for name in storage.listdir(uri)}
    return {name: float(value["seconds"]) for name, value in found.items()}


class _Clock:
    """Where the job is: stage, and since when this start of it is there."""

    def __init__(self, job: Job, stages: dict[str, float]) -> None:
        self.job, self.stages = job, stages
        self._at, self._since = "", time.monotonic()

    def reached(self, moment: Moment) -> bool:
        stage = self.job.stage()
        if stage != self._at:
            self._at, self._since = stage, time.monotonic()
        if not stage:
            return False
        here, there = STAGES.index(stage), STAGES.index(moment.stage)
        if here != there:
            return here > there
        if stage == "train" and moment.share > 0.2:
            return self.job.steps() >= (moment.share - 0.2) / 0.8 * STEPS
        return time.monotonic() - self._since >= moment.share * self.stages[stage]


def strike(rng: random.Random, nodes: Nodes, job: Job) -> str:
    """Kill one thing of those that are there; what it was."""
    workers, ranks = nodes.workers(), nodes.ranks()
    there = ["driver", "raylet", *(["worker"] * 2 if workers else []), *(["rank"] * 2 if ranks else [])]
    victim = rng.choice(there)
    if victim == "driver":
        job.kill()
        return "the driver"
    if victim == "raylet":
        nodes.kill_other()
        return "the second node"
    process = rng.choice(workers if victim == "worker" else ranks)
    name = name_of(process)
    with suppress(psutil.NoSuchProcess):
        process.kill()
    return name


@dataclass(frozen=True)
class Round:
    """One run with its kills."""

    kills: list[str]
    seconds: float
    restarts: int
    """Of the command, by whoever looks after jobs: the driver was killed, or ended with status 1."""
    problems: list[str]


def disturbed(
    nodes: Nodes,
    run: Path,
    undisturbed: Path,
    stages: dict[str, float],
    moments: list[Moment],
    hit: Callable[[Job], str],
    first: int = 0,
) -> Round:
    """A run from raw text to export, hit at these moments; `first`: number of its first hit, for what is said."""
    job = Job(run, address=nodes.address)
    kills: list[str] = []
    problems: list[str] = []
    begun = time.monotonic()
    job.start()
    ends, clock = 0, _Clock(job, stages)
    try:
        while True:
            if moments and wait_until(lambda: clock.reached(moments[0]), job):
                moments.pop(0)
                stage, step = job.stage(), job.steps()
                what = hit(job)
                kills.append(f"{stage}: {what}")
                at = f"{stage}, step {step}" if stage == "train" else stage
                print(f"kill {first + len(kills)}: {what} ({at}, {time.monotonic() - begun:.0f} s)", flush=True)
                time.sleep(0.2)
            else:
                job.to_the_end()
            assert job.process is not None
            status = job.process.poll()
            if status is None:
                continue
            if status == 0:
                break
            if status > 0:
                ends += 1
                last = (job.said().strip().splitlines() or [""])[-2:]
                print(f"  the job ended with status {status}: {' / '.join(last)[:300]}", flush=True)
            if status == 2 or ends > len(kills) + 1:
                problems.append(f"status {status}: {job.said()[-1500:]}")
                break
            job.start()
    except TimeoutError as e:
        problems.append(str(e))
    finally:
        job.kill()
    if not problems:
        problems = differences(run, undisturbed)
    return Round(kills, time.monotonic() - begun, job.starts - 1, problems)
