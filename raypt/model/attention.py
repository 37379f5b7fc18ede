"""Causal attention that does not compute what the mask throws away: by documents on GPUs, in blocks on CPUs.

torch's CPU kernel works through all keys for every query. Here queries go in blocks, and a block sees only the keys up
to its own end: a little over half of the products. Up to `KEPT` tokens the probabilities are kept for the backward pass
(half of a matrix), and the documents' mask is a matrix too. Longer rows take memory in proportion to their length: each
token knows where its document begins, a block sees no key before that, and the backward pass makes the probabilities
again from their logarithmic sums (Rabe & Staats 2021, Dao et al. 2022). The query heads of a group are folded into the
rows of one product per key head.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 64
"""Queries of a block."""
KEPT = 2048
"""Tokens of the longest row whose probabilities and mask are kept on a CPU: 4 MiB of mask a row, 8 of probabilities a
head."""


class _BlockedCausal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q_BHSD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, mask_BSS: Tensor | None) -> Tensor:
        b, h, s, d = q_BHSD.shape
        kv = k_BKSD.shape[1]
        groups = h // kv
        q = q_BHSD.reshape(b * kv, groups, s, d)
        k, v = k_BKSD.reshape(b * kv, s, d), v_BKSD.reshape(b * kv, s, d)
        y_BHSD = torch.empty_like(q_BHSD, memory_format=torch.contiguous_format)
        y = y_BHSD.view(b * kv, groups, s, d)
        probabilities = []
        for start in range(0, s, BLOCK):
            end = min(start + BLOCK, s)
            n = end - start
            rows = (q[:, :, start:end] * d**-0.5).reshape(b * kv, groups * n, d)
            scores = torch.bmm(rows, k[:, :end].transpose(1, 2))
            if mask_BSS is None:
                above = torch.ones(n, n, dtype=torch.bool, device=q.device).triu_(1)
                scores.view(b * kv, groups, n, end)[..., start:].masked_fill_(above, float("-inf"))
            else:
                hidden = ~mask_BSS[:, None, None, start:end, :end]
                scores.view(b, kv, groups, n, end).masked_fill_(hidden, float("-inf"))
            p = torch.softmax(scores, dim=-1)
            y[:, :, start:end] = torch.bmm(p, v[:, :end]).view(b * kv, groups, n, d)
            probabilities.append(p)
        ctx.save_for_backward(q_BHSD, k_BKSD, v_BKSD, *probabilities)
        return y_BHSD

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q_BHSD, k_BKSD, v_BKSD, *probabilities = ctx.saved_tensors
        b, h, s, d = q_BHSD.shape
        kv = k_BKSD.shape[1]
        groups = h // kv
        q = q_BHSD.reshape(b * kv, groups, s, d)
        k, v = k_BKSD.reshape(b * kv, s, d), v_BKSD.reshape(b * kv, s, d)
        dy_BHSD = grads[0]
        dy = dy_BHSD.reshape(b * kv, groups, s, d)
        dq = torch.empty_like(q)
        dk, dv = torch.zeros_like(k), torch.zeros_like(v)
        for i, start in enumerate(range(0, s, BLOCK)):
            end = min(start + BLOCK, s)
            n = end - start
            p = probabilities[i]
            rows = q[:, :, start:end].reshape(b * kv, groups * n, d)
            dy_rows = dy[:, :, start:end].reshape(b * kv, groups * n, d)
            dv[:, :end].baddbmm_(p.transpose(1, 2), dy_rows)
            ds = torch._softmax_backward_data(torch.bmm(dy_rows, v[:, :end].transpose(1, 2)), p, -1, p.dtype)
            dq[:, :, start:end] = torch.bmm(ds, k[:, :end]).view(b * kv, groups, n, d)
            dk[:, :end].baddbmm_(ds.transpose(1, 2), rows)
        dq.mul_(d**-0.5)
        dk.mul_(d**-0.5)
        return dq.view(b, h, s, d), dk.view(b, kv, s, d), dv.view(b, kv, s, d), None


class _LongCausal(torch.autograd.Function):
    """Memory beside inputs and output: a number a query and head, and one block's scores."""

    @staticmethod
    def forward(ctx: Any, q_BHSD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, begins_BS: Tensor | None) -> Tensor:
        b, h, s, d = q_BHSD.shape
        kv = k_BKSD.shape[1]
        q, k, v = _folded(q_BHSD, k_BKSD, v_BKSD)
        y_BHSD = torch.empty_like(q_BHSD, memory_format=torch.contiguous_format)
        y = y_BHSD.view(b * kv, h // kv, s, d)
        sums = q.new_empty(b * kv, h // kv, s, dtype=torch.float32)
        for first, start, end in _blocks(s, begins_BS):
            scores = _scores(q, k, begins_BS, first, start, end)
            sums[:, :, start:end] = torch.logsumexp(scores.float(), -1).view(b * kv, h // kv, end - start)
            p = torch.softmax(scores, dim=-1)
            y[:, :, start:end] = torch.bmm(p, v[:, first:end]).view(b * kv, h // kv, end - start, d)
        ctx.save_for_backward(q_BHSD, k_BKSD, v_BKSD, begins_BS, y_BHSD, sums)
        return y_BHSD

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q_BHSD, k_BKSD, v_BKSD, begins_BS, y_BHSD, sums = ctx.saved_tensors
        b, h, s, d = q_BHSD.shape
        kv = k_BKSD.shape[1]
        q, k, v = _folded(q_BHSD, k_BKSD, v_BKSD)
        dy = grads[0].reshape(b * kv, h // kv, s, d)
        inner = (dy * y_BHSD.view_as(dy)).sum(-1, dtype=torch.float32)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for first, start, end in _blocks(s, begins_BS):
            rows = q[:, :, start:end].reshape(b * kv, -1, d)
            dy_rows = dy[:, :, start:end].reshape(b * kv, -1, d)
            scores = _scores(q, k, begins_BS, first, start, end).float()
            p = scores.sub_(sums[:, :, start:end].reshape(b * kv, -1, 1)).exp_()
            dv[:, first:end].baddbmm_(p.to(v.dtype).transpose(1, 2), dy_rows)
            dp = torch.bmm(dy_rows, v[:, first:end].transpose(1, 2)).float()
            ds = dp.sub_(inner[:, :, start:end].reshape(b * kv, -1, 1)).mul_(p).to(k.dtype)
            dq[:, :, start:end] = torch.bmm(ds, k[:, first:end]).view(b * kv, h // kv, end - start, d)
            dk[:, first:end].baddbmm_(ds.transpose(1, 2), rows)
        dq.mul_(d**-0.5)
        dk.mul_(d**-0.5)
        return dq.view(b, h, s, d), dk.view(b, kv, s, d), dv.view(b, kv, s, d), None


def _folded(q_BHSD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B*K, H/K, S, D), (B*K, S, D), (B*K, S, D)."""
    b, h, s, d = q_BHSD.shape
    kv = k_BKSD.shape[1]
    return q_BHSD.reshape(b * kv, h // kv, s, d), k_BKSD.reshape(b * kv, s, d), v_BKSD.reshape(b * kv, s, d)


def _blocks(s: int, begins_BS: Tensor | None) -> Iterator[tuple[int, int, int]]:
    """(first key, first query, end of both) of each block."""
    firsts = [0] * -(-s // BLOCK) if begins_BS is None else begins_BS[:, ::BLOCK].amin(0).tolist()
    for i, first in enumerate(firsts):
        yield first, i * BLOCK, min((i + 1) * BLOCK, s)


def _scores(q: Tensor, k: Tensor, begins_BS: Tensor | None, first: int, start: int, end: int) -> Tensor:
    """(B*K, H/K * queries, keys) of a block, -inf where a query may not look."""
    both, groups, _, d = q.shape
    n = end - start
    scores = torch.bmm((q[:, :, start:end] * d**-0.5).reshape(both, groups * n, d), k[:, first:end].transpose(1, 2))
    above = torch.ones(n, n, dtype=torch.bool, device=q.device).triu_(1)
    scores.view(both, groups, n, end - first)[..., start - first :].masked_fill_(above, float("-inf"))
    if begins_BS is not None and bool((begins_BS[:, start:end] > first).any()):
        keys = torch.arange(first, end, device=q.device)
        before_B11NK = keys < begins_BS[:, None, None, start:end, None]
        b = len(begins_BS)
        scores.view(b, both // b, groups, n, end - first).masked_fill_(before_B11NK, float("-inf"))
    return scores


def attention(
    q_BHSD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor, mask: Tensor | None, begins_BS: Tensor | None = None
) -> Tensor:
    """Scaled dot-product attention with grouped key/value heads.

    `mask`: boolean (B, 1, S, T) or (S, T), True = may attend; None = causal. A mask must itself be causal where S = T.
    `begins_BS`: in the place of a mask, the first token of each token's document; for rows that `long_row` holds for.
    """
    s = q_BHSD.shape[2]
    if mask is None and s == k_BKTD.shape[2] and long_row(s, q_BHSD.device):
        long: Callable[..., Tensor] = _LongCausal.apply
        return long(q_BHSD, k_BKTD, v_BKTD, begins_BS)
    assert begins_BS is None, "a short row takes a mask"
    training = torch.is_grad_enabled() and q_BHSD.requires_grad
    blocked = training and q_BHSD.device.type == "cpu" and s == k_BKTD.shape[2]
    if blocked and s > BLOCK and (mask is None or mask.dim() == 4):
        apply: Callable[..., Tensor] = _BlockedCausal.apply
        return apply(q_BHSD, k_BKTD, v_BKTD, None if mask is None else mask[:, 0])
    return F.scaled_dot_product_attention(
        q_BHSD,
        k_BKTD,
        v_BKTD,
        attn_mask=mask,
        is_causal=mask is None and s > 1,
        enable_gqa=q_BHSD.shape[1] != k_BKTD.shape[1],
    )


def long_row(tokens: int, device: torch.device) -> bool:
    """Whether a row is too long for a mask and for probabilities that are kept."""
    return device.type == "cpu" and tokens > KEPT


@dataclass(frozen=True)
class Documents:
    """The documents of a packed batch, its rows laid end to end."""

    starts_N1: Tensor
    """int32: where each document begins, and where the last one ends."""
    longest: int
    """Tokens of the longest document."""


def documents(segments_BS: Tensor) -> Documents:
    """A document begins with each row and where the segment changes; padding (segment 0) counts as one."""
    begins_BS = torch.ones_like(segments_BS, dtype=torch.bool)
    begins_BS[:, 1:] = segments_BS[:, 1:] != segments_BS[:, :-1]
    end = torch.tensor([segments_BS.numel()], device=segments_BS.device)
    starts_N1 = torch.cat((begins_BS.flatten().nonzero()[:, 0], end)).int()
    return Documents(starts_N1, int(starts_N1.diff().max()))


def varlen_attention(q_BHSD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, docs: Documents) -> Tensor:
    """Causal attention inside each document by torch's variable-length flash kernel, which sees no mask at all: CUDA,
    half precision.
    """
    from torch.nn.attention.varlen import varlen_attn

    b, _, s, _ = q_BHSD.shape
    q_THD, k_TKD, v_TKD = (x.transpose(1, 2).flatten(0, 1) for x in (q_BHSD, k_BKSD, v_BKSD))
    y_THD = varlen_attn(
        q_THD, k_TKD, v_TKD, docs.starts_N1, docs.starts_N1, docs.longest, docs.longest,
        window_size=(-1, 0), enable_gqa=q_THD.shape[1] != k_TKD.shape[1],
    )  # fmt: skip
    assert isinstance(y_THD, Tensor)
    y_BSHD: Tensor = y_THD.unflatten(0, (b, s))
    return y_BSHD.transpose(1, 2)


def varlen_problem(device: torch.device, heads: int, kv_heads: int, width: int) -> str | None:
    """Why the variable-length kernel of a device cannot take the place of the dense mask for bf16 heads of this width;
    None if its results and gradients agree on a trial of a few documents.
    """
    generator = torch.Generator().manual_seed(0)
    segments_BS = torch.tensor([[1] * 100 + [2] * 90 + [3] * 66], device=device)
    q, k, v = (
        torch.randn(1, h, 256, width, generator=generator).to(device, torch.bfloat16).requires_grad_()
        for h in (heads, kv_heads, kv_heads)
    )
    mask = (segments_BS[:, None, :, None] == segments_BS[:, None, None, :]).tril()
    try:
        ways = [varlen_attention(q, k, v, documents(segments_BS)), attention(q, k, v, mask)]
        one, other = (
            torch.cat([x.flatten() for x in (y, *torch.autograd.grad(y.float().square().sum(), (q, k, v)))]).float()
            for y in ways
        )
        error = float((one - other).norm() / other.norm())
    except (RuntimeError, ImportError, NotImplementedError, TypeError, AssertionError) as e:
        return f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else 'no reason given'}"
    # Two orders of bf16 sums: each of the products rounds to 8 bits, which leaves about 0.5 % of a sum.
    return None if error < 3e-2 else f"it is {error:.1e} off the dense mask"
