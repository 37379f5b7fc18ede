"""Sums over the workers for outer steps, while training goes on (streaming DiLoCo, Douillard et al. 2025)."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from raypt.parallel.local_sgd import four_bits


@dataclass(frozen=True)
class UnderWay:
    """A fragment's difference on its way."""

    fragment: int
    begun: int
    """The inner step after which it was taken."""
    difference: Tensor
    """In host memory; the sum, once `sent` is there."""
    sent: Future[int]
    """Bytes that this rank has sent for it."""


class Exchange:
    """Making one is collective. With a delay, sums are made in a thread and a process group of their own, in the order
    in which they were begun: on every rank the same.
    """

    def __init__(self, *, bits: int, delayed: bool, device: torch.device) -> None:
        self.bits, self.device = bits, device
        self._group = dist.new_group() if delayed else None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outer") if delayed else None

    def begin(self, fragment: int, step: int, difference: Tensor) -> UnderWay:
        """Collective."""
        if self._thread is not None:
            return UnderWay(fragment, step, difference, self._thread.submit(self.sum, difference))
        done: Future[int] = Future()
        done.set_result(self.sum(difference))
        return UnderWay(fragment, step, difference, done)

    def sum(self, values: Tensor) -> int:
        """Sum over all ranks, in place, in host memory; the bytes that this rank sends."""
        world = dist.get_world_size()
        if self.bits == 4:
            return four_bits.all_reduce(values, world, self._group)
        there = values.to(self.device)
        dist.all_reduce(there, group=self._group)
        if there is not values:
            values.copy_(there)
        return 2 * (world - 1) * values.numel() * 4 // world
