"""A few small words between the driver and the workers of a run, through the cluster's own store: no actor, no file."""

import json
from typing import Any

from ray.experimental import internal_kv

BEATS = "beat/"
"""Beginning of the names of the ranks' heartbeats."""
STOP = "stop"
"""Name of the driver's word that the run is to end."""
STOPPED = "stopped"
"""Name of rank 0's word that training has ended, asked to or not: the step of the last checkpoint, which is whole."""


class Board:
    """Words of one run, by name. Each call is a request to the head node, of a millisecond or less."""

    _NAMESPACE = "raypt"

    def __init__(self, run: str) -> None:
        """`run` names it within the cluster."""
        self._prefix = f"{run}/"

    def put(self, name: str, value: Any) -> None:
        internal_kv._internal_kv_put(self._prefix + name, json.dumps(value), namespace=self._NAMESPACE)

    def get(self, name: str) -> Any:
        """None if there is none."""
        value = internal_kv._internal_kv_get(self._prefix + name, namespace=self._NAMESPACE)
        return None if value is None else json.loads(value)

    def names(self, beginning: str) -> list[str]:
        found = internal_kv._internal_kv_list(self._prefix + beginning, namespace=self._NAMESPACE)
        return sorted(key.decode().removeprefix(self._prefix) for key in found)

    def clear(self, beginning: str = "") -> None:
        internal_kv._internal_kv_del(self._prefix + beginning, del_by_prefix=True, namespace=self._NAMESPACE)
