"""Cross-entropy over a vocabulary without ever holding the logits of all positions.

The head's matrix product, the softmax and both gradients are done chunk by chunk inside the forward pass (the gradient
of a sum of losses is linear in the incoming gradient, which is a scalar), as in Liger's fused linear cross-entropy
(Hsu et al. 2024). Memory: one chunk of logits plus one gradient of the head's weight.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

CACHED_BYTES = 4 * 2**20


@dataclass(frozen=True)
class VocabularyPart:
    """What a weight with some of the vocabulary's rows needs to know of the others."""

    first: int
    """Id of the first row."""
    highest: Callable[[Tensor], None]
    """Takes the element-wise maximum over the parts, in place."""
    total: Callable[[Tensor], None]
    """Adds up over the parts, in place."""


def _block_rows(logits_CV: Tensor) -> int:
    """Rows whose float32 logits stay in a CPU's cache while they are passed over; a GPU takes the chunk as it is."""
    if logits_CV.device.type != "cpu":
        return logits_CV.shape[0]
    return max(1, CACHED_BYTES // (4 * logits_CV.shape[1]))


def _softmax_gradient(
    logits_BV: Tensor, target_B1: Tensor, keep_B1: Tensor, z_scale: float, need: bool
) -> tuple[Tensor, Tensor]:
    """Sums of the loss and of the squared log-partition over rows; if `need`, the logits become their own gradient."""
    x_BV = logits_BV.float()  # the same memory where they are float32
    picked_B1 = x_BV.gather(1, target_B1)
    # One exponential an element serves the partition function and the gradient.
    highest_B1 = x_BV.amax(dim=1, keepdim=True)
    exp_BV = x_BV.sub_(highest_B1).exp_()
    sum_B1 = exp_BV.sum(dim=1, keepdim=True)
    log_z_B1 = highest_B1 + sum_B1.log()
    if need:
        grad_BV = exp_BV.mul_(keep_B1 * (1 + 2 * z_scale * log_z_B1) / sum_B1)
        grad_BV.scatter_add_(1, target_B1, -keep_B1)
        if grad_BV.dtype != logits_BV.dtype:
            logits_BV.copy_(grad_BV)
    return ((log_z_B1 - picked_B1) * keep_B1).sum(), (log_z_B1.square() * keep_B1).sum()


def _part_softmax_gradient(
    logits_CV: Tensor, target_C1: Tensor, keep_C1: Tensor, z_scale: float, need: bool, part: VocabularyPart
) -> tuple[Tensor, Tensor]:
    """The same where each part of the vocabulary has its own logits: two exchanges of a row's figures a chunk, and one
    exponential an element all the same.
    """
    local_C1 = target_C1 - part.first
    here_C1 = (local_C1 >= 0) & (local_C1 < logits_CV.shape[1])
    local_C1 = local_C1.masked_fill(~here_C1, 0)
    x_CV = logits_CV.float()
    block = _block_rows(logits_CV)
    own_C1 = x_CV.new_empty(x_CV.shape[0], 1)
    sum_C1, picked_C1 = torch.empty_like(own_C1), torch.empty_like(own_C1)
    for at in range(0, x_CV.shape[0], block):
        rows = slice(at, at + block)
        picked_C1[rows] = x_CV[rows].gather(1, local_C1[rows])
        own_C1[rows] = x_CV[rows].amax(dim=1, keepdim=True)
        sum_C1[rows] = x_CV[rows].sub_(own_C1[rows]).exp_().sum(dim=1, keepdim=True)
    highest_C1 = own_C1.clone()
    part.highest(highest_C1)
    factor_C1 = (own_C1 - highest_C1).exp_()
    both_2C1 = torch.stack((sum_C1 * factor_C1, picked_C1.masked_fill_(~here_C1, 0)))
    part.total(both_2C1)
    total_C1, picked_C1 = both_2C1
    log_z_C1 = highest_C1 + total_C1.log()
    if need:
        factor_C1 *= keep_C1 * (1 + 2 * z_scale * log_z_C1) / total_C1
        for at in range(0, x_CV.shape[0], block):
            rows = slice(at, at + block)
            grad_BV = x_CV[rows].mul_(factor_C1[rows])
            grad_BV.scatter_add_(1, local_C1[rows], -keep_C1[rows] * here_C1[rows])
            if grad_BV.dtype != logits_CV.dtype:
                logits_CV[rows].copy_(grad_BV)
    return ((log_z_C1 - picked_C1) * keep_C1).sum(), (log_z_C1.square() * keep_C1).sum()


def _sums(
    logits_CV: Tensor, target_C1: Tensor, keep_C1: Tensor, z_scale: float, need: bool, vocabulary: VocabularyPart | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """`_softmax_gradient` of a chunk, block by block where the vocabulary is whole."""
    if vocabulary is not None:
        yield _part_softmax_gradient(logits_CV, target_C1, keep_C1, z_scale, need, vocabulary)
        return
    block = _block_rows(logits_CV)
    for at in range(0, logits_CV.shape[0], block):
        rows = slice(at, at + block)
        yield _softmax_gradient(logits_CV[rows], target_C1[rows], keep_C1[rows], z_scale, need)


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NE: Tensor,
        weight_VE: Tensor,
        targets_N: Tensor,
        valid_N: Tensor,
        z_scale: float,
        chunk: int,
        vocabulary: VocabularyPart | None,
    ) -> tuple[Tensor, Tensor]:
        """Sums over valid rows of the loss and of the squared log-partition; the gradient of loss + z_scale * z."""
        assert hidden_NE.shape[0] > 0, "a batch without positions has no loss"
        need = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        loss = hidden_NE.new_zeros((), dtype=torch.float32)
        z = torch.zeros_like(loss)
        grad_hidden = torch.empty_like(hidden_NE) if need else None
        grad_weight = torch.empty(weight_VE.shape, dtype=torch.float32, device=weight_VE.device) if need else None
        for start in range(0, hidden_NE.shape[0], chunk):
            rows = slice(start, start + chunk)
            hidden_CE, keep_C1 = hidden_NE[rows], valid_N[rows, None].float()
            target_C1 = targets_N[rows, None] * keep_C1.long()  # padding may hold any id
            logits_CV = hidden_CE @ weight_VE.T
            for sums in _sums(logits_CV, target_C1, keep_C1, z_scale, need, vocabulary):
                loss += sums[0]
                z += sums[1]
            if grad_hidden is not None and grad_weight is not None:
                grad_CV = logits_CV
                torch.mm(grad_CV, weight_VE, out=grad_hidden[rows])
                if grad_weight.dtype == grad_CV.dtype:
                    grad_weight.addmm_(grad_CV.T, hidden_CE, beta=0 if start == 0 else 1)
                elif start == 0:
                    grad_weight.copy_(grad_CV.T @ hidden_CE)
                else:
                    grad_weight += grad_CV.T @ hidden_CE
                del grad_CV
            del logits_CV  # not beside those of the next chunk
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight_VE.dtype)
        ctx.scale = None
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.mark_non_differentiable(z)
        return loss, z

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = grads[0]
        # They are scaled in place, unseen by autograd, which would refuse another walk. That one, as zero-bubble
        # schedules make it for the gradients of weights, finds them scaled by the factor of the walk before: by the
        # same factor there is nothing more to do, to the bit.
        factor = scale if ctx.scale is None else torch.where(scale == ctx.scale, 1.0, scale / ctx.scale)
        ctx.scale = scale
        return (
            grad_hidden.data.mul_(factor.to(grad_hidden.dtype)) if ctx.needs_input_grad[0] else None,
            grad_weight.data.mul_(factor.to(grad_weight.dtype)) if ctx.needs_input_grad[1] else None,
            None,
            None,
            None,
            None,
            None,
        )


def cross_entropy_sum(
    hidden_NE: Tensor,
    weight_VE: Tensor,
    targets_N: Tensor,
    valid_N: Tensor,
    *,
    z_loss: float = 0.0,
    chunk: int = 2048,
    part: VocabularyPart | None = None,
) -> tuple[Tensor, Tensor]:
    """(sum of cross-entropy, sum of squared log-partition) over valid rows, float32 scalars.

    Only the first carries a gradient, which already includes `z_loss` times that of the second (PaLM uses 1e-4), so the
    loss shown stays the cross-entropy. `chunk`: rows of logits held at a time. `part`: the weight has some of the
    vocabulary's rows; the sums are then those of the whole, the gradient of the hidden states this part's term of it.
    """
    apply: Callable[..., tuple[Tensor, Tensor]] = _ChunkedCrossEntropy.apply
    return apply(hidden_NE, weight_VE, targets_N, valid_N, float(z_loss), chunk, part)
