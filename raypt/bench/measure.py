"""What a benchmark reports: wall and CPU seconds of a section, peak memory of the process tree, one JSON line."""

import contextlib
import json
import os
import resource
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psutil


@dataclass
class Timing:
    """Wall and CPU seconds of one measured section; CPU includes child processes that have been waited for."""

    seconds: float = 0.0
    cpu_s: float = 0.0


def cpu_seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in usages)


@contextlib.contextmanager
def measured() -> Iterator[Timing]:
    section = Timing()
    cpu, wall = cpu_seconds(), time.perf_counter()
    try:
        yield section
    finally:
        section.seconds = time.perf_counter() - wall
        section.cpu_s = cpu_seconds() - cpu


class PeakMemory(threading.Thread):
    """Samples the resident memory of this process and its descendants (shared pages count once per process). Who they
    are is asked once a second: it takes reading the status of every process of the machine, which at every sample took
    a fiftieth of a core beside a Ray cluster.
    """

    def __init__(self, every_s: float = 0.1) -> None:
        super().__init__(daemon=True)
        self.every_s, self.peak_bytes = every_s, 0
        self._processes: list[psutil.Process] = []
        self._asked = -1.0
        self._stopped = threading.Event()
        self.start()

    def _sample(self) -> None:
        if time.monotonic() - self._asked >= 1.0:
            me, self._asked = psutil.Process(), time.monotonic()
            self._processes = [me, *me.children(recursive=True)]
        total = 0
        for process in self._processes:
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        self.peak_bytes = max(self.peak_bytes, total)

    def run(self) -> None:
        while not self._stopped.wait(self.every_s):
            self._sample()

    def stop(self) -> int:
        """Stop sampling; the peak in bytes."""
        self._stopped.set()
        self.join()
        self._sample()
        return self.peak_bytes


def report_line(
    workload: str, section: Timing, *, docs: int = 0, nbytes: int = 0, tokens: int = 0, workers: int = 1, **more: Any
) -> dict[str, Any]:
    """Print the figures as one JSON line (rates per wall second, and per CPU second) and return them."""
    line: dict[str, Any] = {
        "workload": workload,
        "peer": "raypt",
        "workers": workers,
        "seconds": round(section.seconds, 4),
        "cpu_s": round(section.cpu_s, 4),
        "docs": docs,
        "mb": round(nbytes / 1e6, 3),
    }
    for unit, amount in (("docs", docs), ("mb", nbytes / 1e6), ("tokens", tokens)):
        if amount:
            line[f"{unit}_per_s"] = round(amount / max(section.seconds, 1e-9), 3)
            line[f"{unit}_per_cpu_s"] = round(amount / max(section.cpu_s, 1e-9), 3)
    line |= {**more, "load1": round(os.getloadavg()[0], 2)}
    print(json.dumps(line, ensure_ascii=False), flush=True)
    return line
