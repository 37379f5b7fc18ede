"""AdamW's update on a CPU in one pass over memory.

DeepSpeed prepares an update in passes of their own: a check for infinities, a flat copy of the gradients, their
float32 copy, the clipping, then the optimizer, then the copy into the weights that the model computes with. Each reads
or writes all parameters. Here a block of gradients small enough for the cache becomes float32, is divided, applied, and
its weights are copied out, before the next block is touched; the arithmetic is that of torch's fused AdamW.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 2**18
"""Elements of a block: 1 MB of float32 gradients and 1 MB of weights, shared by the cores."""


@dataclass(frozen=True)
class Cut:
    """Elements that are updated together, every tensor flat and of one length."""

    master: Tensor
    """float32 weights."""
    grad: Tensor
    low: Tensor | None
    """What the model computes with, if that is not the master itself."""
    exp_avg: Tensor
    exp_avg_sq: Tensor


def square_sum(grads: Iterable[Tensor]) -> float:
    """Sum of squares, each block's in float32; not finite if a gradient is not."""
    sums: list[Tensor] = []
    buffer: Tensor | None = None
    for grad in grads:
        size = BLOCK if grad.device.type == "cpu" else 64 * BLOCK
        if buffer is None:
            buffer = torch.empty(size, dtype=torch.float32, device=grad.device)
        for block in grad.reshape(-1).split(size):
            # sum() adds up pairwise; a dot product or a norm of so many float32 terms is off by some 1e-6.
            sums.append(buffer[: block.numel()].copy_(block).square_().sum())
    return float(torch.stack(sums).sum(dtype=torch.float64)) if sums else 0.0


def divisor(norm: float, clip_norm: float | None) -> float:
    """What gradients of this norm are divided by so that it does not exceed `clip_norm`."""
    return 1.0 if clip_norm is None else max(1.0, (norm + 1e-6) / clip_norm)


def adamw_state(optimizer: torch.optim.Optimizer, master: Tensor) -> dict[str, Any]:
    """The state torch's AdamW keeps of a parameter, made where there is none yet."""
    state: dict[str, Any] = optimizer.state[master]
    if not state:
        state["step"] = torch.zeros((), dtype=torch.float32)
        state["exp_avg"] = torch.zeros_like(master)
        state["exp_avg_sq"] = torch.zeros_like(master)
    return state


LANES = 64
"""Elements that any CPU's vectors divide."""


@torch.no_grad()
def adamw(
    group: dict[str, Any], step: Tensor, cuts: Iterable[Cut], grad_divisor: float, *, alike: bool = False
) -> None:
    """Update the cuts with the rates of an optimizer's group; `step` counts this update already. The kernel rounds the
    elements that fill no vector, at the end of what it is given, otherwise than those before: with `alike`, the result
    does not depend on where a cut ends.
    """
    beta1, beta2 = group["betas"]
    scale = torch.tensor(grad_divisor) if grad_divisor != 1.0 else None
    buffer = torch.empty(BLOCK)
    for cut in cuts:
        for at in range(0, cut.master.numel(), BLOCK):
            part = slice(at, at + BLOCK)
            grad = buffer[: cut.grad[part].numel()].copy_(cut.grad[part])
            block = [cut.master[part], grad, cut.exp_avg[part], cut.exp_avg_sq[part]]
            padded = alike and grad.numel() % LANES > 0
            arguments = [F.pad(x, (0, -x.numel() % LANES)) for x in block] if padded else block
            masters, grads, exp_avgs, exp_avg_sqs = ([x] for x in arguments)
            torch._fused_adamw_(
                masters,
                grads,
                exp_avgs,
                exp_avg_sqs,
                [],
                [step],
                lr=group["lr"],
                beta1=beta1,
                beta2=beta2,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
                grad_scale=scale,
            )
            if padded:
                for held, updated in zip(block, arguments, strict=True):
                    held.copy_(updated[: held.numel()])
            if cut.low is not None:
                cut.low[part].copy_(block[0])
