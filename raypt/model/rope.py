"""Rotary positions (Su et al. 2021) in fp32, in the half-split layout of the published LLaMA checkpoints."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from raypt.model.config import ModelConfig, RopeScaling


def inverse_frequencies(config: ModelConfig, length: int | None = None) -> Tensor:
    """The head_width / 2 angular frequencies, float32, radians a token. `length` matters to dynamic scaling alone."""
    width, scaling = config.head_width, config.rope_scaling
    theta = config.rope_theta
    if scaling is not None and scaling.kind == "dynamic":
        longest = max(length or 0, scaling.original_length)
        grown = scaling.factor * longest / scaling.original_length - (scaling.factor - 1)
        theta = theta * grown ** (width / (width - 2))
    freqs = 1.0 / theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    if scaling is None or scaling.kind == "dynamic":
        return freqs
    if scaling.kind == "linear":
        return freqs / scaling.factor
    return _llama3(freqs, scaling)


def _llama3(freqs: Tensor, scaling: RopeScaling) -> Tensor:
    wavelengths = 2 * math.pi / freqs
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    ramp = ((scaling.original_length / wavelengths - low) / (high - low)).clamp(0.0, 1.0)
    return (1 - ramp) * freqs / scaling.factor + ramp * freqs


def positions_from_segments(segments_BS: Tensor) -> Tensor:
    """Position of each token inside its document: counts up and restarts at 0 where the segment id changes. (B, S)."""
    index_S = torch.arange(segments_BS.shape[1], device=segments_BS.device)
    starts_BS = torch.ones_like(segments_BS, dtype=torch.bool)
    starts_BS[:, 1:] = segments_BS[:, 1:] != segments_BS[:, :-1]
    return index_S - (index_S * starts_BS).cummax(dim=1).values


def cos_sin(positions: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the angles, float32, shape positions.shape + (head_width / 2,)."""
    angles = positions[..., None].float() * inverse.to(positions.device)
    return angles.cos(), angles.sin()


class _Rotate(torch.autograd.Function):
    """Few passes over memory, float32 inside; the gradient is the rotation by the opposite angle."""

    @staticmethod
    def forward(ctx: Any, x_BHSD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x_BHSD, cos, sin, sign=1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _rotated(grads[0], cos, sin, sign=-1), None, None


def _rotated(x_BHSD: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    half = x_BHSD.shape[-1] // 2
    x = x_BHSD.float() if x_BHSD.dtype.itemsize < 4 else x_BHSD
    x1, x2 = x[..., :half], x[..., half:]
    y1 = torch.mul(x1, cos).addcmul_(x2, sin, value=-sign)
    y2 = torch.mul(x2, cos).addcmul_(x1, sin, value=sign)
    return torch.cat((y1, y2), dim=-1).to(x_BHSD.dtype)


def rotate(x_BHSD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each head by `cos` and `sin`, (B, H, S, D / 2) by broadcast; contiguous, in the input's dtype."""
    apply: Callable[..., Tensor] = _Rotate.apply
    return apply(x_BHSD, cos, sin)
