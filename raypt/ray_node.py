"""The node of a Ray that a job starts itself, which `ray.init` and `ray.shutdown` wait for in whole seconds (2.60)."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

LOOK_S, SOON_S = 0.02, 5.0
"""Between two looks, and for how long: a node is there after one or two seconds. For one that is later or does not come
Ray waits itself, with its own bound and words."""


@contextlib.contextmanager
def found_soon() -> Iterator[None]:
    """`ray.init` in the block goes on when its node has registered, not at the next second after it: what it asks for
    the node sleeps for a second at a time while there is none.
    """
    from ray._private import services
    from ray._private.state import GlobalState

    its: Any = services
    ordinary = its.get_node

    def soon(gcs_address: str, node_id: str) -> Any:
        state = GlobalState()
        state._initialize_global_state(its._get_gcs_client_options(gcs_address))
        until = time.monotonic() + SOON_S
        while time.monotonic() < until and all(node["NodeID"] != node_id for node in state.node_table()):
            time.sleep(LOOK_S)
        return ordinary(gcs_address, node_id)

    its.get_node = soon
    try:
        yield
    finally:
        its.get_node = ordinary


def end_monitor() -> None:
    """Before `ray.shutdown`. Ray's monitor, which asks a cloud for nodes and has nothing to do on one machine, does not
    end when it is asked to, and is given a second for it.
    """
    from ray._private import ray_constants, worker

    node: Any = worker._global_node
    if node is not None and ray_constants.PROCESS_TYPE_MONITOR in node.all_processes:
        node.kill_monitor(check_alive=False)
