"""What chaos is done to: the main job on a tiny corpus, some raylets, and what of a run must be as undisturbed."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from raypt import storage
from raypt.ledger import Ledger
from tests.jobs.helpers import ROOT, TINY, environment
from tests.training.drivers import actors

STEPS = 40
OPTIONS = [
    *TINY,
    "corpus.shard_bytes=60k",
    "curation.stages=[language, gopher_quality]",
    "curation.quality.reference=[]",
    f"train.steps={STEPS}",
    "train.workers=2",
    "train.checkpoint.every_steps=5",
    "train.max_failures=20",
    "train.stall_warning_s=5",
    "train.collective_timeout_s=20",
    "run.record_samples=true",
]
STAGES = ("manifest", "quality", "curate", "decide", "dedup", "write", "tokenizer", "train", "export", "sample")
RAYS_OWN = ("IDLE", "DashboardAgent", "RuntimeEnvAgent", "JobSupervisor")
"""What is no work of the job. Ray's agents go with their raylet, which has a turn of its own."""


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics, those of a file that is being written too."""
    from raypt.training.records import read_metrics

    with suppress(FileNotFoundError, ValueError):
        return read_metrics(str(run))
    return []


class Job:
    """The job's command on one run directory, started again as often as it takes."""

    def __init__(self, run: Path, *options: str, address: str | None = None) -> None:
        self.run, self.log = run, run.with_suffix(".log")
        self.command = [sys.executable, str(ROOT / "jobs" / "pretrain.py"), *OPTIONS, *options, f"run.dir={run}"]
        self.environment = environment() | {"RAY_AUTH_MODE": "disabled"}
        if address is not None:
            self.environment["RAY_ADDRESS"] = address
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "subprocess.Popen[bytes]":
        self.starts += 1
        with self.log.open("ab") as log:
            log.write(f"\n#### start {self.starts}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, cwd=self.run.parent, env=self.environment
            )
        return self.process

    def said(self) -> str:
        """What the last start has printed."""
        return self.log.read_text(errors="replace").rpartition(f"#### start {self.starts}\n")[2]

    def stage(self) -> str:
        """That the last start is at; "" before the first."""
        found = re.findall(r" I == (\w+)", self.said())
        return found[-1] if found else ""

    def steps(self) -> int:
        rows = metrics(self.run)
        return int(rows[-1]["step"]) if rows else 0

    def kill(self) -> None:
        """SIGKILL to the driver and, if it has a Ray of its own, to that."""
        if self.process is None or self.process.poll() is not None:
            return
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for child in children:
            with suppress(psutil.Error):
                child.kill()

    def to_the_end(self, timeout_s: float = 1200) -> int:
        """Wait for the last start; its exit status."""
        assert self.process is not None
        return self.process.wait(timeout_s)


class Nodes:
    """A head and other raylets, each of which may be killed and comes back."""

    def __init__(self, folder: str, second: dict[str, str] | None = None, others: int = 1, **head: Any) -> None:
        """`second`: environment of the other nodes' processes; `head`: more of the head's arguments."""
        os.environ["RAY_AUTH_MODE"] = "disabled"
        os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")  # on a loaded machine it takes more than 30 s
        from ray.cluster_utils import Cluster

        arguments = {"num_cpus": 2 if others == 1 else 1, "include_dashboard": False, "temp_dir": folder, **head}
        self.cluster = Cluster(initialize_head=True, head_node_args=arguments)
        self.address: str = self.cluster.address
        self._environment = second
        self._others = [self._add() for _ in range(others)]

    def _add(self) -> Any:
        more = {"env_vars": self._environment} if self._environment else {}
        return self.cluster.add_node(num_cpus=2, **more)

    def kill_other(self, which: int = 0) -> None:
        """As a spot machine goes: all its processes, without notice. Another comes in its place."""
        self.cluster.remove_node(self._others[which], allow_graceful=False)
        self._others[which] = self._add()

    def workers(self) -> list[psutil.Process]:
        """Actors and tasks that work, ranks of training left out."""
        found = actors(os.getpid(), "ray::")
        names = [(p, _title(p)) for p in found]
        return [p for p, name in names if name and not name.startswith((*RAYS_OWN, "RayTrainWorker"))]

    def ranks(self) -> list[psutil.Process]:
        return actors(os.getpid(), "RayTrainWorker")


def _title(process: psutil.Process) -> str:
    try:
        return str(process.cmdline()[0]).removeprefix("ray::")
    except (psutil.Error, IndexError):
        return ""


def name_of(process: psutil.Process) -> str:
    """An actor or task as Ray names it."""
    return _title(process) or f"process {process.pid}"


@contextmanager
def cluster(folder: str, second: dict[str, str] | None = None, others: int = 1, **head: Any) -> Iterator[Nodes]:
    nodes = Nodes(folder, second, others, **head)
    try:
        yield nodes
    finally:
        nodes.cluster.shutdown()


def differences(run: Path, undisturbed: Path) -> list[str]:
    """In what a finished run is not as the undisturbed one: ledger, samples (index, tokens, step), losses, exactly."""
    inputs = [storage.read_json(str(d / "manifest.json"))["files"]["size"] for d in (run, undisturbed)]
    if inputs[0] != inputs[1]:
        return ["another input: it is the documentation of this environment's packages, were some installed meanwhile?"]
    out = []
    ledger = storage.read_json(str(run / "ledger.json"))
    try:
        Ledger.from_json(ledger).check()
    except Exception as e:
        out.append(f"the ledger does not add up: {e}")
    if ledger != storage.read_json(str(undisturbed / "ledger.json")):
        out.append("another ledger")
    one, two = (storage.read_parquet(str(d / "samples.parquet")) for d in (run, undisturbed))
    if not one.equals(two):
        out.append(f"other samples ({one.num_rows} and {two.num_rows})")
    ours, theirs = ([(row["step"], row["loss"]) for row in metrics(d)] for d in (run, undisturbed))
    if ours != theirs:
        first = next((a for a, b in zip(ours, theirs, strict=False) if a != b), None)
        out.append(f"other losses ({len(ours)} and {len(theirs)} steps, first at {first})")
    return out


def wait_until(condition: Any, job: Job, timeout_s: float = 200) -> bool:
    """Whether it came before the job's end. TimeoutError: neither did."""
    deadline = time.monotonic() + timeout_s
    assert job.process is not None
    while not condition():
        if job.process.poll() is not None:
            return False
        if time.monotonic() > deadline:
            raise TimeoutError(f"neither its end nor what was waited for:\n{job.said()[-3000:]}")
        time.sleep(0.05)
    return True
