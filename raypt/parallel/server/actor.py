"""A server as a Ray actor: it waits, and the slice computes.

One coroutine a call: a pull waits here for its round while pushes come in. All computing is done between two awaits, so
that no call sees half an update.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import ray
import torch

from raypt.parallel.flat.layout import Flat
from raypt.parallel.flat.slice import MakeOptimizer, SliceState, Snapshot
from raypt.parallel.server.rounds import Rounds
from raypt.parallel.server.travel import Array, packed, unpacked

NAMESPACE = "raypt"


class Server:
    """One of the servers of a run; numbered from 0, as their slices are."""

    def __init__(
        self,
        flat: Flat,
        number: int,
        names: Sequence[str],
        workers: int,
        optimizer: MakeOptimizer,
        clip_norm: float | None,
        weights_dtype: torch.dtype,
        threads: int,
    ) -> None:
        """`names` are those of all servers."""
        torch.set_num_threads(threads)
        cut = flat.cut(len(names))[number]
        self.slice = SliceState(flat, cut, optimizer, clip_norm)
        self.rounds = Rounds(workers, cut.numel)
        self._number, self._names, self._dtype = number, names, weights_dtype
        self._squares: dict[int, asyncio.Future[float]] = {}
        self._changed = asyncio.Event()
        self._published: Any = None
        """Reference of the weights of the round under way."""
        self._norm: float | None = None

    async def ready(self) -> None:
        """Returns when the server is there."""

    async def push(self, worker: int, number: int, gradient: Array) -> None:
        """A worker's gradient of round `number`."""
        self.rounds.add(worker, number, unpacked(gradient))
        if self.rounds.complete:
            self._square(number).set_result(self.slice.square(self.rounds.sum))

    async def square(self, number: int) -> float:
        """This slice's part of the squared norm of round `number`, once all workers have brought theirs."""
        return await self._square(number)

    def _square(self, number: int) -> "asyncio.Future[float]":
        return self._squares.setdefault(number, asyncio.get_running_loop().create_future())

    async def update(self, number: int, lr_scale: float, max_norm: float | None = None) -> None:
        """End round `number` with an update, once all gradients are there, on all servers; without one where the norm
        is not finite, or above `max_norm`.
        """
        others = [ray.get_actor(name, NAMESPACE) for i, name in enumerate(self._names) if i != self._number]
        squares = [await self._square(number), *await asyncio.gather(*(o.square.remote(number) for o in others))]
        norm = math.fsum(squares) ** 0.5  # exactly rounded: the same on every server
        if math.isfinite(norm) and (max_norm is None or norm <= max_norm):
            self.slice.update(self.rounds.sum, norm, lr_scale)
        self._end(norm if math.isfinite(norm) else None)

    async def discard(self, number: int) -> None:
        """End round `number` without an update."""
        await self._square(number)
        self._end(None)

    def _end(self, norm: float | None) -> None:
        self._squares.pop(self.rounds.number - 1, None)  # a slow peer may still ask for this round's
        self.rounds.next()
        if norm is not None:
            self._publish()
        self._norm = norm
        self._wake()

    def _publish(self) -> None:
        """Put the weights into the object store once, for all workers: those of a node share the copy."""
        self._published = ray.put(packed(self.slice.weights, self._dtype))

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def pull(self, number: int) -> tuple[float | None, Any]:
        """The norm of the round before `number`, None where it was ended without an update, and a list with the
        reference of the weights; once that round has ended.
        """
        while self.rounds.number < number:
            await self._changed.wait()
        return self._norm, [self._published]

    async def snapshot(self) -> Snapshot:
        """The state between two rounds."""
        return self.slice.snapshot()

    async def load(self, snapshot: Snapshot) -> None:
        """Take a state, and begin with it. The round's number stays, what has come for it does not."""
        self.slice.load(snapshot)
        self._squares.clear()
        self.rounds.next()
        self.rounds.number -= 1
        self._publish()
        self._wake()
