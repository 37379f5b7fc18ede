"""Crossings between what all tensor ranks compute alike and what each computes a part of.

Outside of the cut layers the ranks hold the same activations or, with sequence parallelism (Korthikanti et al. 2022),
each its share of the positions. Every crossing is a collective forward or backward, whose other direction is its
transpose.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from raypt.parallel.comm_clock import CLOCK
from raypt.parallel.mesh import Group


class Region:
    """The cut layers of one group of ranks."""

    def __init__(self, group: Group, *, sequence_parallel: bool) -> None:
        self.group, self.sequence_parallel = group, sequence_parallel

    def enter(self, x_BSE: Tensor) -> Tensor:
        """What a layer cut by rows is fed with: all positions on every rank."""
        return _call(_Gather if self.sequence_parallel else _Copy, x_BSE, self.group)

    def leave(self, terms_BSE: Tensor) -> Tensor:
        """The sum of what layers cut by columns give: with sequence parallelism, of the rank's positions."""
        return _call(_Scatter if self.sequence_parallel else _Reduce, terms_BSE, self.group)


def summed_gradient(parameter: Tensor, group: Group) -> Tensor:
    """The parameter, whose gradient is added up over the group."""
    return _call(_Copy, parameter, group)


def _apply(function: type[torch.autograd.Function], x: Tensor, group: Group) -> Tensor:
    apply: Callable[..., Tensor] = function.apply
    return apply(x, group)


_crossing = [_apply]
"""How a crossing is called."""


def stay_uncompiled() -> None:
    """Have torch.compile leave crossings out of its graphs, from now on: it would trace the clock's reading as a
    constant, and what a sum does in place as a collective of its own. A graph ends and another begins there.
    """
    _crossing[0] = torch.compiler.disable(_apply)


def _call(function: type[torch.autograd.Function], x: Tensor, group: Group) -> Tensor:
    return _crossing[0](function, x, group)


def _sum(x: Tensor, group: Group) -> Tensor:
    """In place."""
    with CLOCK:
        dist.all_reduce(x, group=group.handle)
    return x


def _gather(x_BsE: Tensor, group: Group) -> Tensor:
    b, s, e = x_BsE.shape
    out = x_BsE.new_empty(group.size * b, s, e)
    with CLOCK:
        dist.all_gather_into_tensor(out, x_BsE.contiguous(), group=group.handle)
    return out.view(group.size, b, s, e).movedim(0, 1).reshape(b, group.size * s, e)


def _scatter(x_BSE: Tensor, group: Group) -> Tensor:
    b, s, e = x_BSE.shape
    assert s % group.size == 0, f"{s} positions over {group.size} ranks"
    rows = x_BSE.view(b, group.size, s // group.size, e).movedim(1, 0).contiguous()
    out = torch.empty_like(rows[0])
    with CLOCK:
        dist.reduce_scatter_tensor(out, rows.flatten(0, 1), group=group.handle)
    return out


class _Copy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _sum(grads[0].clone(memory_format=torch.contiguous_format), ctx.group), None


class _Reduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        return _sum(x.clone(memory_format=torch.contiguous_format), group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0], None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return _gather(x, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _scatter(grads[0].contiguous(), ctx.group), None


class _Scatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return _scatter(x.contiguous(), group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _gather(grads[0], ctx.group), None
