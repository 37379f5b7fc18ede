"""A run with `workers: [1, 2]` on a cluster whose second node dies, comes back, and is preempted with notice."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from raypt import storage
from raypt.training.checkpoint.directory import list_checkpoints
from raypt.training.on_ray.run import TrainResult
from raypt.training.records import read_metrics
from tests.training import tiny_run
from tests.training.drivers import Driver

STEPS, EVERY = 80, 5
NOTICE_S = 30.0
"""Steps on a loaded machine take a second and more, and the notice is looked for twice a second."""


@dataclass
class Elastic:
    """What the elastic run and a run on one worker throughout leave."""

    undisturbed: TrainResult
    undisturbed_dir: Path
    elastic_dir: Path


@pytest.fixture(scope="module")
def elastic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elastic]:
    root = tmp_path_factory.mktemp("elastic")
    tiny_run.prepare(root / "data", STEPS)
    # A worker takes 2 CPUs: one fits on each node, and one CPU is left for the stream.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "include_dashboard": False})
    second = cluster.add_node(num_cpus=2)
    job = tiny_run.Job(
        str(root / "data"), str(root / "elastic"), cluster.address, STEPS, EVERY,
        workers=(1, 2), cpus_per_worker=2, resize_check_s=1.0, keep_last=99, hidden=256, lr=2e-4,
    )  # fmt: skip
    driver = Driver(job)

    def workers() -> list[int]:
        return [row["workers"] for row in read_metrics(job.out)]

    try:
        driver.wait_for(lambda: workers()[EVERY + 3 :] != [])
        cluster.remove_node(second, allow_graceful=False)
        driver.wait_for(lambda: 1 in workers())
        third = cluster.add_node(num_cpus=2)
        driver.wait_for(lambda: workers()[-1:] == [2])
        preempt(cluster, third, NOTICE_S, lambda: saved_at_once(root / "elastic") != [])
        driver.finish()
        ray.init(address=cluster.address)
        undisturbed = tiny_run.run(replace(job, out=str(root / "undisturbed"), workers=1))
        yield Elastic(undisturbed, root / "undisturbed", root / "elastic")
    finally:
        driver.kill()
        ray.shutdown()
        cluster.shutdown()


def saved_at_once(out: Path) -> list[int]:
    """Steps of whole checkpoints that the interval does not ask for."""
    return [info.step for info in list_checkpoints(str(out / "checkpoints")) if info.step % EVERY]


def preempt(cluster: Cluster, node: Any, notice_s: float, ready: Callable[[], bool]) -> None:
    """What a cloud does to a spot machine: notice, then the end; here as soon as the run is ready for it."""
    deadline = time.time() + notice_s
    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    accepted, why_not = GcsClient(address=cluster.address).drain_node(
        node.node_id, reason, "spot", int(1000 * deadline)
    )
    assert accepted, why_not
    while not ready() and time.time() < deadline:
        time.sleep(0.1)
    cluster.remove_node(node, allow_graceful=False)


def test_a_preemption_notice_saves_at_once_and_not_at_the_next_interval(elastic: Elastic) -> None:
    assert saved_at_once(elastic.elastic_dir)


def test_the_run_shrinks_with_the_cluster_and_grows_again(elastic: Elastic) -> None:
    workers = [row["workers"] for row in read_metrics(str(elastic.elastic_dir))]
    assert [n for n, _ in groupby(workers)] == [2, 1, 2, 1]


def test_the_losses_are_those_of_a_constant_number_of_workers(elastic: Elastic) -> None:
    one, two = read_metrics(str(elastic.elastic_dir)), elastic.undisturbed.metrics
    assert [row["step"] for row in one] == list(range(1, STEPS + 1))
    # fp32: another number of workers adds up the same gradients in another order, 1e-8 at first. The learning rate is
    # one at which training does not amplify that: at 1e-3 the resizes leave 3e-8, and it is 7e-5 thirty steps later.
    np.testing.assert_allclose([row["loss"] for row in one], [row["loss"] for row in two], rtol=1e-5)


def test_every_step_has_the_same_samples(elastic: Elastic) -> None:
    one, two = (
        storage.read_parquet(str(d / "samples.parquet")) for d in (elastic.elastic_dir, elastic.undisturbed_dir)
    )
    assert one.drop_columns(["rank"]).equals(two.drop_columns(["rank"]))
