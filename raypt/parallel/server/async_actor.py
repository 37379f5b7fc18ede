"""A server whose slice is updated by one worker's gradient at a time, as the gradients come."""

from collections.abc import Sequence
from typing import Any

import ray
import torch

from raypt.parallel.flat.layout import Flat
from raypt.parallel.flat.slice import MakeOptimizer, SliceState, Snapshot
from raypt.parallel.server.travel import Array, packed, unpacked


class AsyncServer:
    """One of the servers of a run. The leader has all of them make the same updates in the same order, each once all of
    them have the gradient: an update is made on all servers or on none, whoever dies, and version v of the weights is
    that of v updates.
    """

    def __init__(
        self,
        flat: Flat,
        number: int,
        names: Sequence[str],
        optimizer: MakeOptimizer,
        clip_norm: float | None,
        weights_dtype: torch.dtype,
        threads: int,
    ) -> None:
        """`names` are those of all servers."""
        torch.set_num_threads(threads)
        self.slice = SliceState(flat, flat.cut(len(names))[number], optimizer, clip_norm)
        self._dtype = weights_dtype
        self._version = 0
        self._published: tuple[int, Any] | None = None
        """A version, and the reference of its weights."""
        self._waiting: dict[int, Array] = {}
        """Gradients that are not applied yet, by grant."""
        self._forgotten: set[int] = set()

    async def ready(self) -> None:
        """Returns when the server is there."""

    async def push(self, grant: int, gradient: Array) -> None:
        """A gradient; read where it lies in the object store, which keeps it until it is applied."""
        if grant in self._forgotten:
            self._forgotten.discard(grant)
        else:
            self._waiting[grant] = gradient

    async def apply(self, grant: int, norm: float, lr_scale: float) -> None:
        """One update by a gradient that is there, whose whole has that norm."""
        gradient = unpacked(self._waiting.pop(grant))
        self.slice.update(gradient.float(), norm, lr_scale)
        self._version += 1

    async def forget(self, grant: int) -> None:
        """The gradient is not to be applied, whether it has come or is still on its way."""
        if self._waiting.pop(grant, None) is None:
            self._forgotten.add(grant)

    async def pull(self) -> tuple[int, Any]:
        """The version of the weights, and a list with their reference. They are put into the object store once a
        version, and only if somebody asks.
        """
        if self._published is None or self._published[0] != self._version:
            self._published = self._version, ray.put(packed(self.slice.weights, self._dtype))
        version, reference = self._published
        return version, [reference]

    async def snapshot(self) -> Snapshot:
        """The state between two updates."""
        return self.slice.snapshot()

    async def load(self, snapshot: Snapshot) -> None:
        """Take a state: version 0."""
        self.slice.load(snapshot)
        self._version, self._published = 0, None
        self._waiting.clear()
