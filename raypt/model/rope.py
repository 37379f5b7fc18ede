"""Rotary positions (Su et al. 2021) in fp32, in the half-split layout of the published LLaMA checkpoints."""

import math

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
    """Cosines and sines of the angles, float32, shape positions.shape + (head_width,) (both halves repeated)."""
    angles = positions[..., None].float() * inverse.to(positions.device)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x_BHSD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each head. `cos`, `sin` broadcast against (B, H, S, D); the result has the dtype of the input."""
    half = x_BHSD.shape[-1] // 2
    x1, x2 = x_BHSD[..., :half], x_BHSD[..., half:]
    return (x_BHSD * cos + torch.cat((-x2, x1), dim=-1) * sin).to(x_BHSD.dtype)
