"""The sum of squares of numbers that are cut over ranks in any way: the same bits for every cut and order.

Squares of float32 are exact in float64. Adding a large number and taking it away again rounds each to a multiple of one
unit, so coarse that sums of all of them are exact too, and what that leaves is rounded to a finer unit, and so on
(Demmel and Nguyen 2013, "Fast Reproducible Floating-Point Summation"). The units follow from the largest number and
from how many there are, which all ranks know.
"""

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from raypt.parallel.comm_clock import CLOCK
from raypt.parallel.mesh import Group

_BLOCK = 2**15
"""Elements that stay in the cache while they are passed over."""
_MANTISSA = 51
"""Bits between the largest number that may be rounded to a unit and that unit."""
_WANTED = 32
"""Bits that the sum keeps below its largest term, beside those that adding many of them needs."""


def largest(x: Tensor) -> float:
    """Magnitude; infinite if anything is not finite."""
    if x.numel() == 0:
        return 0.0
    low, high = (float(v) for v in torch.aminmax(x))
    top = max(-low, high)
    return top if math.isfinite(top) and not (math.isnan(low) or math.isnan(high)) else math.inf


def folds(count: int) -> int:
    """Units that `count` squares are rounded to, one after the other."""
    bits = count.bit_length()
    assert bits < _MANTISSA - 8, f"{count} numbers"
    return math.ceil((bits + _WANTED) / (_MANTISSA - bits))


def folded_squares(x: Tensor, top: float, count: int) -> list[float]:
    """For each unit, the sum of what the squares of `x` are multiples of it. `top`: the largest magnitude of all
    `count` numbers, of which these are some. Sums of such lists are exact, whoever adds them up in whatever order; the
    sum of the list is the sum of squares.
    """
    bits, number = count.bit_length(), folds(count)
    sums = [0.0] * number
    if top == 0.0 or x.numel() == 0:
        return sums
    highest = 2 * math.frexp(top)[1]
    """Squares are less than 2 to this."""
    for block in x.reshape(-1).split(_BLOCK):
        rest = block.double().square_()
        exponent = highest
        for i in range(number):
            large = 1.5 * 2.0 ** (exponent + bits + 1)
            rounded = (rest + large).sub_(large)
            sums[i] += float(rounded.sum())
            rest.sub_(rounded)
            exponent += bits - _MANTISSA - 1
    return sums


def square_sum(pieces: Sequence[Tensor], counts: Sequence[int], group: Group | None, device: torch.device) -> float:
    """Over all parameters, the same on every rank; not finite if a gradient is not. Collective over the group.

    `pieces`: what this rank has of each parameter's gradient, maybe nothing; `counts`: elements of the whole ones;
    `group`: ranks that have the others' pieces, None where each has all.
    """
    tops = torch.tensor([largest(piece) for piece in pieces], dtype=torch.float64, device=device)
    if group is not None:
        with CLOCK:
            dist.all_reduce(tops, op=dist.ReduceOp.MAX, group=group.handle)
    if not bool(torch.isfinite(tops).all()):
        return math.inf
    lists = [folded_squares(*each) for each in zip(pieces, tops.tolist(), counts, strict=True)]
    sums = torch.tensor([value for each in lists for value in each], dtype=torch.float64, device=device)
    if group is not None:
        with CLOCK:
            dist.all_reduce(sums, group=group.handle)
    return math.fsum(sums.tolist())
