"""For tests of the stream on Ray: what workers are given, a cluster of several raylets, a driver, SIGKILL by title."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.cluster_utils import Cluster
from ray.data import DataIterator

from raypt.tokens.stream.cursor import Cursor
from raypt.tokens.stream.dataset import StreamDataConfig, make_train_dataset
from raypt.tokens.stream.spec import StreamSpec
from tests.tokens.recorder import Recording

ROOT = Path(__file__).resolve().parents[2]
LABELS = {"pool": "data"}


def iterators(spec: StreamSpec, ranks: int, start: int = 0) -> list[DataIterator]:
    """What Ray Train gives its workers: the factory's dataset, split by our DataConfig."""
    cursor = Cursor(start, spec.fingerprint) if start else None
    dataset = make_train_dataset(spec, lambda: cursor)()
    return [split["train"] for split in StreamDataConfig(spec).configure({"train": dataset}, ranks)]


@dataclass
class Raylets:
    """A head, a node that trains, and two labelled data nodes, each with one CPU and a raylet of its own."""

    cluster: Cluster
    training: Any
    data: list[Any]

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    @property
    def nodes(self) -> list[Any]:
        return [self.cluster.head_node, self.training, *self.data]

    def remove(self, node: Any) -> None:
        """SIGKILL a raylet and all that runs under it."""
        self.cluster.remove_node(node, allow_graceful=False)


@contextmanager
def raylets() -> Iterator[Raylets]:
    """Four raylets, which end with the block; a driver in this process is disconnected first."""
    # Warm workers are kept: a new one imports for seconds what it needs.
    settings = {"idle_worker_killing_time_threshold_ms": 300_000}
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": settings}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        training = cluster.add_node(num_cpus=1, resources={"train": 4})
        yield Raylets(cluster, training, [cluster.add_node(num_cpus=1, labels=LABELS) for _ in range(2)])
    finally:
        ray.shutdown()
        cluster.shutdown()


@contextmanager
def driver(run: Recording, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The recorder in a process of its own, which ends with the block; its output is added to `log`."""
    environment = os.environ | {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2", "RAY_TRAIN_V2_ENABLED": "1"}
    command = [sys.executable, "-m", "tests.tokens.recorder", json.dumps(asdict(run))]
    with log.open("ab") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes], timeout_s: float = 120) -> None:
    """Poll until the condition holds, as long as the driver `process` runs."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the run does not get on"
        assert process.poll() is None, "the driver ended early"
        time.sleep(0.05)


def workers(nodes: Iterable[Any], title: str) -> list[psutil.Process]:
    """The worker processes of these nodes whose title contains `title`."""
    raylets = {node.all_processes["raylet"][0].process.pid for node in nodes}
    found = []
    for process in psutil.process_iter():
        try:
            if process.ppid() in raylets and title in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:  # it has just ended
            pass
    return found


def kill(nodes: Iterable[Any], title: str) -> int:
    """SIGKILL one worker process by its title; its pid."""
    processes = workers(nodes, title)
    assert processes, f"no {title} on these nodes"
    processes[0].kill()
    return processes[0].pid


def kill_at_work(nodes: list[Any], title: str, folder: Path, timeout_s: float = 60) -> str:
    """SIGKILL a worker process of that title while it has a file of `folder` open; the name of that file.

    It is stopped before its files are looked at, so that it dies with the file in its hands.
    """
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        for process in workers(nodes, title):
            try:
                process.suspend()
                at_work = [Path(f.path).name for f in process.open_files() if Path(f.path).parent == folder]
                if at_work:
                    process.kill()
                    return at_work[0]
                process.resume()
            except psutil.NoSuchProcess:
                pass
        time.sleep(0.002)
    raise AssertionError(f"no process {title!r} was seen at work on {folder}")
