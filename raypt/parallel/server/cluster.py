"""The servers of a run as a worker sees them: started, asked, and named when they are gone or late."""

import math
import uuid
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from raypt.parallel import comm
from raypt.parallel.comm_clock import CLOCK
from raypt.parallel.config import ParameterServerConfig
from raypt.parallel.server.actor import NAMESPACE


class ServerLost(RuntimeError):
    """A server has died or does not answer: the workers have to start again, from the last checkpoint."""


class Servers:
    """Handles of all servers. Making one is collective: rank 0 starts them, and they end with its process, so that a
    new start of the workers has new ones.
    """

    def __init__(
        self, config: ParameterServerConfig, kind: type, arguments: dict[str, Any], *, rank: int, timeout_s: float
    ) -> None:
        """`kind`: their class; `arguments`: of it, but for those that follow from the configuration."""
        self.names: list[str] = comm.broadcast_object(
            [f"server-{uuid.uuid4().hex[:12]}-{i}" for i in range(config.servers)]
        )
        self.timeout_s = timeout_s
        problem = None
        if rank == 0:
            try:
                self._started = [_start(config, kind, i, self.names, arguments) for i in range(config.servers)]
                self._get("to start", [actor.ready.remote() for actor in self._started])
            except Exception as e:
                problem = str(e)
        if (said := comm.broadcast_object(problem)) is not None:
            raise ServerLost(said)
        self.actors: list[Any] = [ray.get_actor(name, NAMESPACE) for name in self.names]

    def __len__(self) -> int:
        return len(self.actors)

    def ask(self, what: str, references: Sequence[Any]) -> list[Any]:
        """What calls of servers return, in their order; `what` they are asked for, for the message.

        Raises:
            ServerLost: one of them is gone, or has not answered in time.
        """
        with CLOCK:
            return self._get(what, references)

    def _get(self, what: str, references: Sequence[Any]) -> list[Any]:
        try:
            values: list[Any] = ray.get(list(references), timeout=self.timeout_s)
        except GetTimeoutError:
            raise ServerLost(
                f"parameter servers, asked {what}, have not answered for {self.timeout_s:g} s: does the cluster have "
                "train.parameter_server.servers x cpus_per_server CPUs beside the workers', on nodes with "
                "train.parameter_server.labels?"
            ) from None
        except RayActorError as e:
            raise ServerLost(f"a parameter server is gone, asked {what}: {e}") from None
        return values


def _start(config: ParameterServerConfig, kind: type, number: int, names: list[str], arguments: dict[str, Any]) -> Any:
    options: dict[str, Any] = {
        "name": names[number],
        "namespace": NAMESPACE,
        "num_cpus": config.cpus_per_server,
        "max_concurrency": 10_000,  # calls that wait at once: those of all workers
    }
    if config.labels:
        options["label_selector"] = dict(config.labels)
    threads = math.ceil(config.cpus_per_server)
    return ray.remote(kind).options(**options).remote(number=number, names=names, threads=threads, **arguments)
