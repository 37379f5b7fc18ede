"""The stream on a cluster of four raylets while workers, fetchers, a raylet and the driver are killed.

One scenario, run once; each test looks at what is left of it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import xxhash
from ray.cluster_utils import Cluster

from raypt.tokens.reader import SampleReader
from raypt.tokens.tokenizer import Tokenizer
from tests.tokens.helpers import write_parts
from tests.tokens.recorder import Recording

STEPS = 60
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Chaos:
    """What the scenario leaves: the recording, and who was killed at which step."""

    run: Recording
    killed: dict[str, int]

    def records(self) -> list[list[dict[str, Any]]]:
        """By step, what each rank recorded, in rank order."""
        by_step: list[list[dict[str, Any]]] = [[] for _ in range(STEPS)]
        for file in sorted(f for f in self.run.records.iterdir() if not f.name.startswith(".")):
            by_step[int(file.name.split("-")[0])].append(json.loads(file.read_text()))
        return by_step


def steps_done(run: Recording) -> int:
    files = [f.name for f in run.records.iterdir() if not f.name.startswith(".")] if run.records.exists() else []
    return max((int(name.split("-")[0]) + 1 for name in files), default=0)


def wait_until(condition: Callable[[], bool], driver: subprocess.Popen[bytes] | None, timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the run does not get on"
        assert driver is None or driver.poll() is None, "the driver ended early"
        time.sleep(0.05)


def kill(node: Any, title: str) -> int:
    """SIGKILL one worker process of a raylet by its title; its pid."""
    raylet = node.all_processes["raylet"][0].process
    for process in psutil.Process(raylet.pid).children(recursive=True):
        if title in " ".join(process.cmdline()):
            process.kill()
            return process.pid
    raise AssertionError(f"no {title} on that node")


def start_driver(run: Recording, log: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2", "RAY_TRAIN_V2_ENABLED": "1"}
    with log.open("ab") as out:
        command = [sys.executable, "-m", "tests.tokens.recorder", json.dumps(asdict(run))]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory, tokenizer_uri: str) -> Iterator[Chaos]:
    root = tmp_path_factory.mktemp("chaos")
    write_parts(root / "curated", [["web" if (i + j) % 3 else "books" for j in range(30)] for i in range(10)])
    Tokenizer.load(tokenizer_uri).save(str(root / "tokenizer"))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    training = cluster.add_node(num_cpus=1, resources={"train": 4})
    data = [cluster.add_node(num_cpus=1, labels={"pool": "data"}) for _ in range(2)]
    run = Recording(str(root), 2, STEPS, 0.15, {"pool": "data"}, cluster.address)
    killed: dict[str, int] = {}
    try:
        # Two workers: kill a fetcher, a train worker, a raylet of the data nodes, then the driver.
        driver = start_driver(run, root / "log")
        wait_until(lambda: steps_done(run) >= 5, driver)
        killed["fetcher"] = next(pid for node in data if (pid := _kill_if_there(node, "MapWorker")))
        wait_until(lambda: steps_done(run) >= 10, driver)
        kill(training, "RayTrainWorker")
        killed["worker"] = steps_done(run)
        wait_until(lambda: steps_done(run) >= killed["worker"] + 4, driver)
        cluster.remove_node(data[0], allow_graceful=False)
        killed["raylet"] = steps_done(run)
        wait_until(lambda: steps_done(run) >= killed["raylet"] + 8, driver)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        killed["driver"] = steps_done(run)
        # Then four workers; the driver is killed again; then three, to the end.
        driver = start_driver(replace(run, workers=4), root / "log")
        wait_until(lambda: steps_done(run) >= killed["driver"] + 7, driver)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        driver = start_driver(replace(run, workers=3, step_s=0.0), root / "log")
        assert driver.wait(150) == 0, (root / "log").read_text()[-3000:]
        yield Chaos(run, killed)
    finally:
        if driver.poll() is None:
            driver.kill()
        ray.shutdown()
        cluster.shutdown()


def _kill_if_there(node: Any, title: str) -> int | None:
    try:
        return kill(node, title)
    except AssertionError:
        return None


def test_every_sample_is_trained_on_once_in_the_step_where_it_belongs(chaos: Chaos) -> None:
    for step, ranks in enumerate(chaos.records()):
        samples = [s for record in ranks for s in record["samples"]]
        assert sorted(samples) == list(range(24 * step, 24 * (step + 1)))


def test_the_samples_are_those_of_the_finished_store_read_without_ray(chaos: Chaos) -> None:
    expected: dict[int, str] = {}
    for block in SampleReader(chaos.run.spec()).rank_blocks(0, 1):
        for index, row in zip(block["sample_index"].tolist(), block["tokens"].astype("int32"), strict=True):
            expected[index] = xxhash.xxh3_64_hexdigest(row.tobytes())
    recorded = {
        s: h
        for ranks in chaos.records()
        for record in ranks
        for s, h in zip(record["samples"], record["hashes"], strict=True)
    }
    assert recorded == expected


def test_the_run_went_through_two_four_and_three_workers(chaos: Chaos) -> None:
    workers = list(dict.fromkeys(record["ranks"] for ranks in chaos.records() for record in ranks))
    assert workers == [2, 4, 3]


def test_training_went_on_while_tokenizing(chaos: Chaos) -> None:
    first_record = min(f.stat().st_mtime for f in chaos.run.records.iterdir())
    last_shard = max(f.stat().st_mtime for f in Path(chaos.run.store).glob("shard-*.tok"))
    assert first_record < last_shard
