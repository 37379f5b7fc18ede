"""A hundred steps while two workers and the driver are killed, beside the same steps undisturbed.

`python -m tests.chaos` is the long form: a hundred kills, and other faults, over all phases of a job.
"""

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import ray
from ray.cluster_utils import Cluster

from raypt import storage
from raypt.training.on_ray.run import TrainResult
from raypt.training.records import read_metrics
from tests.training import tiny_run
from tests.training.drivers import Driver, train_workers

STEPS, EVERY, WORKER_KILLS = 100, 5, 2


@dataclass
class Chaos:
    """What the two runs leave, and when who was killed."""

    undisturbed: TrainResult
    undisturbed_dir: Path
    disturbed_dir: Path
    worker_kills: list[int] = field(default_factory=list)
    """Last step on record at each SIGKILL of a worker."""
    driver_kill: int = 0


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    root = tmp_path_factory.mktemp("chaos")
    tiny_run.prepare(root / "data", STEPS)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    job = tiny_run.Job(
        str(root / "data"), str(root / "disturbed"), cluster.address, STEPS, EVERY, max_failures=WORKER_KILLS
    )
    driver = Driver(job)
    moments = random.Random(20)
    victims = ["worker"] * WORKER_KILLS + ["driver"]
    moments.shuffle(victims)
    worker_kills: list[int] = []
    driver_kill = 0
    try:
        for step, victim in zip(sorted(moments.sample(range(1, STEPS), len(victims))), victims, strict=True):
            driver.wait_for_step(step)
            driver.wait_for(lambda: len(train_workers(os.getpid())) == 2)
            time.sleep(moments.uniform(0, 0.2))  # a step is 20 to 40 ms: anywhere in steps, saves and reports
            if victim == "worker":
                worker_kills.append(driver.steps())
                moments.choice(train_workers(os.getpid())).kill()
            else:
                driver_kill = driver.steps()
                driver.kill()
                driver = Driver(job)
        driver.finish()
        ray.init(address=cluster.address)
        undisturbed = tiny_run.run(replace(job, out=str(root / "undisturbed")))
        yield Chaos(undisturbed, root / "undisturbed", root / "disturbed", worker_kills, driver_kill)
    finally:
        driver.kill()
        ray.shutdown()
        cluster.shutdown()


def losses(rows: list[dict[str, float]]) -> np.ndarray:
    return np.array([row["loss"] for row in rows])


def test_the_workers_and_the_driver_died_before_the_end(chaos: Chaos) -> None:
    assert len(chaos.worker_kills) == WORKER_KILLS
    assert all(0 < step < STEPS for step in [*chaos.worker_kills, chaos.driver_kill])


def test_the_history_is_that_of_the_undisturbed_run(chaos: Chaos) -> None:
    rows = read_metrics(str(chaos.disturbed_dir))
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    # The issue allows 1e-6 relative. A resume at the same number of workers is bitwise, so nothing is allowed here.
    assert losses(rows).tolist() == losses(chaos.undisturbed.metrics).tolist()


def test_every_sample_is_trained_on_once_at_its_step(chaos: Chaos) -> None:
    one, two = (storage.read_parquet(str(d / "samples.parquet")) for d in (chaos.disturbed_dir, chaos.undisturbed_dir))
    assert one.column("sample_index").to_pylist() == list(range(STEPS * tiny_run.BATCH))
    assert one.equals(two)
