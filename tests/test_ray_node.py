"""The node of a job's own Ray: whoever starts or ends it waits for no second of Ray's."""

from typing import Any

import psutil
import pytest
from ray._private import node, ray_constants, services, worker
from ray._private.state import GlobalState

from raypt.ray_session import OWN, RaySection, session

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def _own_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_what_waits_a_second_for_a_node_is_asked_when_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    there = []
    ordinary = GlobalState.get_node

    def asked(self: Any, node_id: str) -> Any:
        there.append(any(found["NodeID"] == node_id for found in self.node_table()))
        return ordinary(self, node_id)

    monkeypatch.setattr(GlobalState, "get_node", asked)
    before = services.get_node
    with session(RaySection(num_cpus=1, dashboard=False)):
        assert there == [True]
    assert services.get_node is before


def test_the_monitor_is_not_waited_for_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[tuple[str, bool]] = []
    ordinary = node.Node._kill_process_impl

    def kill(self: Any, process_type: str, allow_graceful: bool = False, **options: Any) -> None:
        ended.append((process_type, allow_graceful))
        ordinary(self, process_type, allow_graceful=allow_graceful, **options)

    monkeypatch.setattr(node.Node, "_kill_process_impl", kill)
    with session(RaySection(num_cpus=1, dashboard=False)):
        its = worker._global_node.all_processes.values()
        processes = [psutil.Process(info.process.pid) for infos in its for info in infos]
    assert len(processes) > 2
    assert ended[0] == (ray_constants.PROCESS_TYPE_MONITOR, False)
    assert (ray_constants.PROCESS_TYPE_RAYLET, True) in ended
    assert not psutil.wait_procs(processes, timeout=10)[1]


def test_a_raylet_looks_for_its_store_for_as_long_as_ray_would() -> None:
    name = "RAY_raylet_client_{}"
    attempts, pause_ms = (
        int(OWN[name.format(key)]) for key in ("num_connect_attempts", "connect_timeout_milliseconds")
    )
    assert attempts * pause_ms >= 10 * 1000  # its own ten, a second apart
