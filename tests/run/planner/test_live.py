"""The planner beside a real Ray cluster of two nodes that say they have H100s: what it plans for, and what it refuses
to train there. No GPU is touched: both answers come before any work."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.jobs.helpers import ROOT, environment

BIG = ["model.preset=llama-3-8b", "tokens.packing.sequence_length=8192", "train.use_gpu=true", "train.precision=bf16"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    # From its first start of Ray on, a process makes clusters that want a token: these tests, alone or after others.
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 0, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=4, num_gpus=8, resources={"accelerator_type:H100": 1})
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def job(script: str, *arguments: str, cwd: Path, address: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "jobs" / script), *arguments]
    of = environment(address)
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, env=of)


def test_a_live_cluster_is_planned_for(address: str, tmp_path: Path) -> None:
    done = job(
        "plan.py", "--json", "plan.cluster=live", "train.global_batch_tokens=1048576", *BIG, cwd=tmp_path,
        address=address,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    cluster = found["cluster"]
    assert (cluster["accelerator"], cluster["nodes"], cluster["per_node"]) == ("h100", 2, 8)
    assert found["best"]["fits"]


def test_a_run_that_cannot_fit_is_refused_before_data_is_read(address: str, tmp_path: Path) -> None:
    """8 B parameters, nothing cut: 18 bytes a parameter on each of 16 GPUs."""
    (tmp_path / "x.jsonl").write_text("this is no JSON and would end the run\n")
    done = job(
        "pretrain.py", "train.zero.stage=0", "train.workers=16", "train.micro_batch_size=1", "ray.dashboard=false",
        "train.global_batch_tokens=131072", "corpus.sources[0].paths=x.jsonl", "train.cpus_per_worker=0.25",
        *BIG, cwd=tmp_path, address=address,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "this run does not fit its devices. A worker needs" in done.stderr
    assert "16 data, ZeRO 0, micro-batch 1" in done.stderr and "for a GPU has 80 GB" in done.stderr
    assert "Most of it is optimizer: raise train.zero.stage" in done.stderr
    assert not (tmp_path / "runs" / "default" / "quarantine").exists()
    assert not (tmp_path / "runs" / "default" / "curated").exists()


def test_a_cluster_that_wants_a_token_is_said_so(address: str, tmp_path: Path) -> None:
    """Ray says of it just that it cannot be reached."""
    command = [sys.executable, str(ROOT / "jobs" / "plan.py"), "plan.cluster=live"]
    of = environment() | {"RAY_ADDRESS": address}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=of)
    assert done.returncode == 2
    assert "set RAY_AUTH_MODE=token" in done.stderr
