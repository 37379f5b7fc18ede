"""Driver programs of the tiny run, started to be disturbed: how far they are, and their worker processes."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from raypt.training.records import read_metrics
from tests.training.tiny_run import Job

ROOT = Path(__file__).resolve().parents[2]


class Driver:
    """A driver program with its log beside the run directory."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.log = Path(job.out).with_suffix(".log")
        environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.5"}
        with self.log.open("a") as f:
            self.process = subprocess.Popen(job.command(), stdout=f, stderr=f, cwd=ROOT, env=environment)

    def steps(self) -> int:
        """The last step on record."""
        rows = read_metrics(self.job.out)
        return rows[-1]["step"] if rows else 0

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 300) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, f"the driver ended too soon:\n{self.tail()}"
            assert time.monotonic() < deadline, f"too slow:\n{self.tail()}"
            time.sleep(0.02)

    def wait_for_step(self, step: int, timeout_s: float = 300) -> None:
        self.wait_for(lambda: self.steps() >= step, timeout_s)

    def finish(self, timeout_s: float = 300) -> None:
        assert self.process.wait(timeout_s) == 0, self.tail()

    def kill(self) -> None:
        """SIGKILL; its cluster, if it has one of its own, goes with it."""
        children = [] if self.process.poll() is not None else psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        for child in children:
            if child.is_running():
                child.kill()

    def tail(self) -> str:
        return self.log.read_text()[-4000:]


def train_workers(root: int) -> list[psutil.Process]:
    """The Ray Train workers among the descendants of process `root`, whatever they are doing, oldest first."""
    return actors(root, "RayTrainWorker")


def actors(root: int, name: str) -> list[psutil.Process]:
    """The Ray actors of a class among the descendants of process `root`, oldest first."""
    out = []
    for process in psutil.Process(root).children(recursive=True):
        try:
            if any(name in part for part in process.cmdline()[:1]):
                out.append((process.create_time(), process))
        except psutil.Error:
            continue  # gone meanwhile
    return [process for _, process in sorted(out, key=lambda pair: pair[0])]
