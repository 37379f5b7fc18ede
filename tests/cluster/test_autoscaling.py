"""The data side on a cluster without nodes at first and at last; `tests.cluster.autoscaled` has the whole job."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from raypt import storage
from tests.cluster.autoscaled import NODES, run
from tests.cluster.autoscaling import Autoscaling, autoscaling_cluster
from tests.jobs.helpers import ROOT


@pytest.fixture(scope="module")
def cluster() -> Iterator[Autoscaling]:
    with autoscaling_cluster(NODES, idle_s=4) as cluster:
        yield cluster


def test_a_wait_is_said_and_ends_in_time_with_what_was_asked_for(cluster: Autoscaling, tmp_path: Path) -> None:
    wish = [
        "corpus.sources[0].paths=" + str(ROOT / "docs" / "*.md"),
        "ray.labels={raypt/pool: none}",
        "ray.nodes_timeout_s=4",
    ]
    seen = run(cluster, "curate.py", f"run.dir={tmp_path}/run", *wish, cwd=tmp_path)
    assert seen.status == 2
    assert re.search(r"waiting for nodes, \d s of at most 4: asked for \d x \{CPU: 1\}; on the way: none", seen.log)
    assert "no node came within ray.nodes_timeout_s=4 s" in seen.log.splitlines()[-1]
    assert seen.most == {}


def test_the_work_is_done_on_nodes_of_its_kind_that_come_and_go(cluster: Autoscaling, tmp_path: Path) -> None:
    texts = [
        "corpus.sources[0].paths=" + str(ROOT / "docs" / "*.md"),
        "curation.stages=[language]",
        "dedup.enabled=false",
    ]
    seen = run(cluster, "curate.py", f"run.dir={tmp_path}/run", *texts, cwd=tmp_path)
    assert seen.status == 0, seen.log[-4000:]
    assert storage.list_sizes(f"{tmp_path}/run/curated")
    assert seen.most == {"cpu": 2}
    assert seen.places()["MapWorker"] == {"cpu"}
    assert seen.nodes_at_last == 0
