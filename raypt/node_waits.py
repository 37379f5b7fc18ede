"""A job that waits for nodes says so, with what it asked for and what is on the way; too long a wait ends it."""

import logging
import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raypt.cluster_use import USE
from raypt.errors import UserError

if TYPE_CHECKING:
    from ray.autoscaler.v2.schema import ClusterStatus

log = logging.getLogger("raypt")

LOOK_S = 5.0
"""Between two looks: one request to the head, a line a node in its answer."""
PATIENCE_S = 10.0
"""A wait that is shorter is not worth a line: tasks that have just been submitted wait for a moment too."""
AGAIN_S = 60.0
"""Between two lines of one wait."""
WORK = ("CPU", "GPU")
"""What whoever works has in use."""


@dataclass(frozen=True)
class Sight:
    """What the head said at one look."""

    asked: Mapping[str, int]
    """What is asked for and has no place, as a person reads it ("CPU: 2, GPU: 1"), and how often."""
    coming: Mapping[str, int]
    """Nodes that are being started, by type."""
    failed: tuple[str, ...]
    """What starts of nodes failed of."""
    working: bool
    """Whether any CPU or GPU of the cluster is in use."""

    def __str__(self) -> str:
        said = "asked for " + ", ".join(f"{n} x {{{shape}}}" for shape, n in sorted(self.asked.items()))
        coming = ", ".join(f"{n} of type {kind}" for kind, n in sorted(self.coming.items()))
        said += f"; on the way: {coming or 'none'}"
        return said + (f"; could not be started: {'; '.join(self.failed)}" if self.failed else "")


def sight(status: "ClusterStatus") -> Sight:
    """What a cluster's state means for a job. Standing requests of Ray Data for nodes that it could use are no wait."""
    asked: Counter[str] = Counter()
    for demand in (*status.resource_demands.ray_task_actor_demand, *status.resource_demands.placement_group_demand):
        for request in demand.bundles_by_count:
            asked[", ".join(f"{name}: {n:g}" for name, n in sorted(request.bundle.items()))] += request.count
    coming: Counter[str] = Counter()
    for launch in status.pending_launches:
        coming[launch.ray_node_type_name] += launch.count
    for node in status.pending_nodes:
        coming[node.ray_node_type_name] += 1
    failed = {f"{f.ray_node_type_name} ({f.details or 'no reason given'})" for f in status.failed_launches}
    nodes = (*status.active_nodes, *status.idle_nodes)
    working = any(node.used_resources().get(name, 0) > 1e-9 for node in nodes for name in WORK)
    return Sight(dict(asked), dict(coming), tuple(sorted(failed)), working)


class NodeWaits:
    """The driver's record of waits; `look` at what the head says from time to time."""

    def __init__(self, timeout_s: float | None) -> None:
        """`timeout_s`: see ray.nodes_timeout_s."""
        self.timeout_s = timeout_s
        self._patience_s = min(PATIENCE_S, (timeout_s or math.inf) / 4)
        self._since: float | None = None
        self._said: float | None = None

    def look(self, seen: Sight, now: float) -> str | None:
        """Take in what is seen at a moment; a line for the log where there is something to say.

        Raises:
            UserError: nothing has run for `timeout_s` for want of nodes.
        """
        if not seen.asked or seen.working:
            since, told = self._since, self._said is not None
            self._since = self._said = None
            return f"nodes came after {now - since:.0f} s" if told and since is not None else None
        self._since = now if self._since is None else self._since
        waited = now - self._since
        if self.timeout_s is not None and waited >= self.timeout_s:
            raise UserError(
                f"no node came within ray.nodes_timeout_s={self.timeout_s:g} s and nothing runs meanwhile: {seen}. "
                "See what the cluster may start (`ray status`; the most nodes of a type, labels, the cloud's quota). "
                "What is done is kept: the same command resumes"
            )
        if waited < self._patience_s or (self._said is not None and now - self._said < AGAIN_S):
            return None
        self._said = now
        limit = "" if self.timeout_s is None else f" of at most {self.timeout_s:g}"
        return f"waiting for nodes, {waited:.0f} s{limit}: {seen}"


class _Watch:
    """The thread that looks; it ends the job as a signal from outside would."""

    def __init__(self, address: str, timeout_s: float | None) -> None:
        self.address, self.waits = address, NodeWaits(timeout_s)
        self.mistake: UserError | None = None
        self._look_s = min(LOOK_S, (timeout_s or LOOK_S) / 4)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="node-waits", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join(self._look_s)
        USE.end()

    def _run(self) -> None:
        from ray.autoscaler.v2.sdk import get_cluster_status

        wait_s = 0.0
        while not self._end.wait(wait_s):
            wait_s = self._look_s
            try:
                status = get_cluster_status(self.address)
                USE.look((n.total_resources(), n.used_resources()) for n in (*status.active_nodes, *status.idle_nodes))
                line = self.waits.look(sight(status), time.monotonic())
            except UserError as e:
                self.mistake = e
                log.error("%s", e)
                os.kill(os.getpid(), signal.SIGTERM)
                return
            except Exception as e:  # the head is away or slow: what needs it will say so
                log.debug("the cluster's state is not known: %s", e)
            else:
                if line is not None:
                    log.info("%s", line)


@contextmanager
def node_waits(timeout_s: float | None) -> Iterator[None]:
    """Look after the waits of this job for the length of the block, in a process that Ray was initialised in.

    Raises:
        UserError: no node came in time.
    """
    import ray

    watch = _Watch(ray.get_runtime_context().gcs_address, timeout_s)
    watch.start()
    try:
        yield
    except KeyboardInterrupt:
        if watch.mistake is None:
            raise
        raise watch.mistake from None
    finally:
        watch.stop()
