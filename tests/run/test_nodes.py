"""Nodes that cannot work on a run are named before it works; on two raylets."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from raypt import node_facts, storage
from raypt.errors import UserError
from raypt.run.config import RunConfig, RunSection
from raypt.run.nodes import check_nodes
from raypt.run_dir import RunDir


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        cluster.wait_for_nodes()
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return RunConfig(run=RunSection(dir=str(tmp_path / "run")))


def test_nodes_are_as_the_driver_or_named_with_what_differs(
    cluster: None, config: RunConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunDir(config.run_uri)
    storage.write_bytes(run.config, b"")
    with caplog.at_level(logging.INFO, "raypt"):
        check_nodes(config, run)
    assert "nodes: 2, with the same raypt" in caplog.text
    monkeypatch.setattr(node_facts, "source_hash", lambda: "another0")  # here; the node imports its own
    with pytest.raises(UserError, match=r"1 of 1 nodes cannot work on this run:\n  \S+ \(\S+\): raypt .*another0"):
        check_nodes(config, run)
    monkeypatch.undo()
    storage.remove(run.config)  # as where the directory is on the driver's disk alone
    with pytest.raises(UserError, match=r"run\.dir cannot be seen"):
        check_nodes(config, run)
