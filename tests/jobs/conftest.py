"""A Ray that several jobs run on, one after the other: those whose claim is not that they start one."""

from collections.abc import Iterator

import pytest
import ray
from ray.cluster_utils import Cluster


@pytest.fixture(scope="package")
def cluster_address() -> Iterator[str]:
    # From its first start of Ray on, a process makes clusters that want a token: these tests, alone or after others.
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    try:
        yield cluster.address
    finally:
        cluster.shutdown()
