"""A model that computes some of the positions of each sequence, from outside.

It is fed whole rows, like any other: ids are cut before the embedding and targets before the output layer, and what
lies between sees the rank's positions alone. Only attention needs the others'. There the ranks exchange heads for
positions (Jacobs et al. 2023, "DeepSpeed Ulysses"), so that each attends over whole sequences with some of the heads:
with the rotations, document masks and kernels of a model that is not cut, and to the bit what it would compute.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from raypt.model import Llama
from raypt.model.llama import Attend, Block, Context, Targets
from raypt.parallel.comm_clock import CLOCK
from raypt.parallel.context.layout import positions
from raypt.parallel.mesh import Group


def cut_positions(model: Llama, group: Group) -> None:
    """Leave to the model, in place, the positions of this rank of the group. Its losses are then terms, to be added up
    over the group, and so are its gradients.
    """

    def own(x_BS: Tensor) -> Tensor:
        return x_BS[:, positions(x_BS.shape[1], group.size, group.rank)]

    def cut_ids(module: Any, args: tuple[Tensor]) -> tuple[Tensor]:
        return (own(args[0]),)

    def cut_targets(module: Any, args: tuple[Tensor, Targets | None]) -> tuple[Tensor, Targets]:
        hidden_BSE, targets = args
        if targets is None:
            raise ValueError("a model cut over positions gives losses, not logits: give it targets")
        return hidden_BSE, replace(targets, ids_BS=own(targets.ids_BS), valid_BS=own(targets.valid_BS))

    model.model.embed_tokens.register_forward_pre_hook(cut_ids)
    model.lm_head.register_forward_pre_hook(cut_targets)
    for block in model.model.layers:
        assert isinstance(block, Block)
        block.self_attn.attend = Exchange(block.self_attn.attend, group)


class Exchange:
    """Attention over whole sequences by some of the heads, between layers that hold some of the positions.

    Two exchanges: queries, keys and values together, then what attention gives; each sends (size - 1) / size of its
    elements. Where there are fewer key/value heads than ranks, several get the same one.
    """

    def __init__(self, attend: Attend, group: Group) -> None:
        self.attend, self.group = attend, group

    def __call__(self, q_BsHD: Tensor, k_BsKD: Tensor, v_BsKD: Tensor, context: Context, layer: int) -> Tensor:
        assert context.cache is None, "a model cut over positions does not decode"
        b, s, heads, width = q_BsHD.shape
        size = self.group.size
        rows = [x.reshape(b, s, size, -1, width) for x in (q_BsHD, *map(self._for_each, (k_BsKD, v_BsKD)))]
        sizes = [x.shape[3] for x in rows]
        q, k, v = _call(_ToHeads, torch.cat(rows, dim=3), self.group).split(sizes, dim=2)
        y_BSHD = self.attend(q, k, v, context, layer)
        return _call(_ToPositions, y_BSHD, self.group).reshape(b, s, heads, width)

    def _for_each(self, x_BsKD: Tensor) -> Tensor:
        """Key or value heads, repeated until there is one a rank."""
        b, s, heads, width = x_BsKD.shape
        if heads % self.group.size == 0:
            return x_BsKD
        return x_BsKD[:, :, :, None].expand(b, s, heads, self.group.size // heads, width)


def _call(function: type[torch.autograd.Function], x: Tensor, group: Group) -> Tensor:
    apply: Callable[..., Tensor] = function.apply
    return apply(x, group)


def _exchanged(x: Tensor, group: Group) -> Tensor:
    """Row r of the first axis goes to rank r; the row that rank r sent takes its place."""
    x = x.contiguous()
    out = torch.empty_like(x)
    with CLOCK:
        dist.all_to_all_single(out, x, group=group.handle)
    return out


def _to_heads(x_BsRHD: Tensor, group: Group) -> Tensor:
    b, s, _, heads, width = x_BsRHD.shape
    got_RBsHD = _exchanged(x_BsRHD.movedim(2, 0), group)
    return got_RBsHD.movedim(0, 1).reshape(b, group.size * s, heads, width)


def _to_positions(x_BSHD: Tensor, group: Group) -> Tensor:
    b, s, heads, width = x_BSHD.shape
    rows_RBsHD = x_BSHD.reshape(b, group.size, s // group.size, heads, width).movedim(1, 0)
    return _exchanged(rows_RBsHD, group).movedim(0, 2)


class _ToHeads(torch.autograd.Function):
    """(B, s, R, H, D), all ranks' heads of this rank's positions -> (B, R s, H, D), this rank's of all."""

    @staticmethod
    def forward(ctx: Any, x_BsRHD: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return _to_heads(x_BsRHD, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _to_positions(grads[0], ctx.group), None


class _ToPositions(torch.autograd.Function):
    """The way back: (B, R s, H, D) -> (B, s, R, H, D)."""

    @staticmethod
    def forward(ctx: Any, x_BSHD: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return _to_positions(x_BSHD, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _to_heads(grads[0], ctx.group), None
