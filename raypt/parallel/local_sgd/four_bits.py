"""Outer gradients in four bits (streaming DiLoCo, Douillard et al. 2025: one of sign, three of exponent, none of
mantissa), and their sum over the ranks.

Blocks of values share a scale, their largest magnitude; a value is 0 or one of 1, 1/2, ..., 1/64 of it, the nearest.
"""

import torch
import torch.distributed as dist
from torch import Tensor

BLOCK = 256
"""Values with a scale in common: its four bytes are 3 % of their own."""
LEVELS = torch.tensor([0.0, *(2.0**-e for e in range(6, -1, -1))])
_BETWEEN = (LEVELS[1:] + LEVELS[:-1]) / 2
_SCALE_BYTES = 4


def packed_bytes(numel: int) -> int:
    """Of so many values, whole blocks."""
    assert numel % BLOCK == 0, numel
    return numel // 2 + numel // BLOCK * _SCALE_BYTES


def pack(values: Tensor) -> Tensor:
    """fp32 values, whole blocks, as bytes: two values a byte, then the scales."""
    blocks = values.view(-1, BLOCK)
    scales = blocks.abs().amax(dim=1)
    relative = blocks / scales.clamp_min(torch.finfo(torch.float32).tiny)[:, None]
    codes = torch.bucketize(relative.abs(), _BETWEEN).to(torch.uint8).add_((relative < 0).to(torch.uint8), alpha=8)
    pairs = codes.view(-1, 2)
    return torch.cat([pairs[:, 0] | pairs[:, 1] << 4, scales.view(torch.uint8)])


def unpack(data: Tensor) -> Tensor:
    """The values that `pack` has chosen."""
    blocks = data.numel() // packed_bytes(BLOCK)
    codes, scales = data[: blocks * BLOCK // 2], data[blocks * BLOCK // 2 :].clone().view(torch.float32)
    both = torch.stack([codes & 15, codes >> 4], dim=1).view(blocks, BLOCK).int()
    return ((both < 8).float().mul_(2).sub_(1) * LEVELS[both & 7] * scales[:, None]).view(-1)


def all_reduce(values: Tensor, world: int, group: dist.ProcessGroup | None = None) -> int:
    """Sum over all ranks, in place, in host memory: the same bits everywhere. Each rank adds up its part of the values,
    in fp32, of what the others send it in four bits; the sums travel in four bits again. Returns the bytes that this
    rank sends.
    """
    share = -(-values.numel() // (world * BLOCK)) * BLOCK
    padded = torch.zeros(world * share)
    padded[: values.numel()] = values
    mine = torch.cat([pack(part) for part in padded.split(share)])
    others = torch.empty_like(mine)
    dist.all_to_all_single(others, mine, group=group)
    size = packed_bytes(share)
    own = torch.stack([unpack(part) for part in others.split(size)]).sum(dim=0)
    gathered = torch.empty_like(mine)
    dist.all_gather_into_tensor(gathered, pack(own), group=group)
    values.copy_(torch.cat([unpack(part) for part in gathered.split(size)])[: values.numel()])
    return 2 * (world - 1) * size
