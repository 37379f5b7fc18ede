"""Cross-entropy over a vocabulary without ever holding the logits of all positions.

The head's matrix product, the softmax and both gradients are done chunk by chunk inside the forward pass (the gradient
of a sum of losses is linear in the incoming gradient, which is a scalar), as in Liger's fused linear cross-entropy
(Hsu et al. 2024). Memory: one chunk of logits plus one gradient of the head's weight.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

CACHED_BYTES = 4 * 2**20


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


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_NE: Tensor, weight_VE: Tensor, targets_N: Tensor, valid_N: Tensor, z_scale: float, chunk: int
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
            block = _block_rows(logits_CV)
            for at in range(0, logits_CV.shape[0], block):
                part = slice(at, at + block)
                sums = _softmax_gradient(logits_CV[part], target_C1[part], keep_C1[part], z_scale, need)
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
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight_VE.dtype)
        ctx.used = False
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.mark_non_differentiable(z)
        return loss, z

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.used:
            raise RuntimeError("the gradients of the chunked cross-entropy are scaled in place: one backward pass only")
        ctx.used = True
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = grads[0]
        return (
            grad_hidden.mul_(scale.to(grad_hidden.dtype)) if ctx.needs_input_grad[0] else None,
            grad_weight.mul_(scale.to(grad_weight.dtype)) if ctx.needs_input_grad[1] else None,
            None,
            None,
            None,
            None,
        )


def cross_entropy_sum(
    hidden_NE: Tensor, weight_VE: Tensor, targets_N: Tensor, valid_N: Tensor, *, z_loss: float = 0.0, chunk: int = 2048
) -> tuple[Tensor, Tensor]:
    """(sum of cross-entropy, sum of squared log-partition) over valid rows, float32 scalars.

    Only the first carries a gradient, which already includes `z_loss` times that of the second (PaLM uses 1e-4), so the
    loss shown stays the cross-entropy. `chunk`: rows of logits held at a time.
    """
    apply: Callable[..., tuple[Tensor, Tensor]] = _ChunkedCrossEntropy.apply
    return apply(hidden_NE, weight_VE, targets_N, valid_N, float(z_loss), chunk)
