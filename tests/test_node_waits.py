"""What a job says while it waits for nodes, and when it ends; on states as Ray's own schema has them."""

import pytest
from ray.autoscaler.v2.schema import (
    ClusterStatus,
    LaunchRequest,
    NodeInfo,
    NodeUsage,
    PlacementGroupResourceDemand,
    RayTaskActorDemand,
    ResourceDemandSummary,
    ResourceRequestByCount,
    ResourceUsage,
)

from raypt.errors import UserError
from raypt.node_waits import AGAIN_S, PATIENCE_S, NodeWaits, sight


def status(used: float = 0.0, tasks: int = 3) -> ClusterStatus:
    node = NodeInfo("m7", "cpu", "i-1", "10.0.0.1", resource_usage=NodeUsage([ResourceUsage("CPU", 2.0, used)], 0))
    demand = ResourceDemandSummary(
        ray_task_actor_demand=[RayTaskActorDemand([ResourceRequestByCount({"CPU": 1.0}, tasks)])] if tasks else [],
        placement_group_demand=[
            PlacementGroupResourceDemand([ResourceRequestByCount({"GPU": 1.0, "CPU": 2.0}, 8)], "a:PACK|PENDING")
        ],
    )
    launches = [LaunchRequest("p5", "gpu", 2, LaunchRequest.Status.PENDING, 0)]
    failed = [LaunchRequest("p4", "spot", 1, LaunchRequest.Status.FAILED, 0, 1, "no capacity in us-east-1")]
    return ClusterStatus(
        active_nodes=[node], pending_launches=launches, failed_launches=failed, resource_demands=demand
    )


def test_a_wait_is_said_once_it_is_one_and_again_a_minute_later_with_what_is_asked_for_and_on_the_way() -> None:
    waits, seen = NodeWaits(600), sight(status())
    assert waits.look(seen, 100.0) is None
    line = waits.look(seen, 100.0 + PATIENCE_S)
    assert line == (
        "waiting for nodes, 10 s of at most 600: asked for 3 x {CPU: 1}, 8 x {CPU: 2, GPU: 1}; "
        "on the way: 2 of type gpu; could not be started: spot (no capacity in us-east-1)"
    )
    assert waits.look(seen, 99.0 + PATIENCE_S + AGAIN_S) is None
    assert waits.look(seen, 100.0 + PATIENCE_S + AGAIN_S) is not None


def test_a_cluster_that_works_is_not_waited_for_and_the_time_begins_anew() -> None:
    waits = NodeWaits(60)
    waits.look(sight(status()), 0.0)
    assert waits.look(sight(status()), 30.0) is not None
    assert waits.look(sight(status(used=0.5)), 31.0) == "nodes came after 31 s"
    assert waits.look(sight(status(used=0.5)), 500.0) is None
    assert waits.look(sight(status()), 501.0) is None


def test_nothing_asked_for_is_no_wait() -> None:
    waits, nothing = NodeWaits(60), ClusterStatus()
    assert [waits.look(sight(nothing), at) for at in (0.0, 50.0, 500.0)] == [None] * 3


def test_the_end_of_a_wait_names_the_key_what_was_asked_for_and_why_none_came() -> None:
    waits = NodeWaits(60)
    waits.look(sight(status()), 0.0)
    with pytest.raises(UserError, match=r"ray\.nodes_timeout_s=60 s .*8 x \{CPU: 2, GPU: 1\}.*no capacity"):
        waits.look(sight(status()), 60.0)


def test_without_a_limit_it_waits() -> None:
    waits = NodeWaits(None)
    waits.look(sight(status()), 0.0)
    assert "waiting for nodes, 99999 s: asked" in str(waits.look(sight(status()), 99_999.0))
