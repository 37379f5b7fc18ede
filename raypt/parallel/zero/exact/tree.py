"""In which order the micro-batches of a step are added up, whatever number of ranks shares them.

Micro-batch i of M stands at a leaf of a tree whose levels are the prime factors of M, the smallest first: at the top, i
modulo the first factor says which child it is under, then the quotient modulo the second, and so on. A node adds up its
children one after the other, so that the tree of a power of two is binary. Rank r of n has the micro-batches j n + r
(`raypt.training.batch_plan`): where n is the product of the first levels, those are all leaves of one node. What is
below that node the rank adds up alone, what is above it the ranks add up together, and every sum has the same terms in
the same order for every such n.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def levels(micro_batches: int) -> list[int]:
    """Prime factors, ascending: children of a node at each level, from the top."""
    out, factor = [], 2
    while micro_batches > 1:
        while micro_batches % factor == 0:
            out.append(factor)
            micro_batches //= factor
        factor += 1
    return out


def valid_sizes(micro_batches: int) -> list[int]:
    """Numbers of ranks whose micro-batches are the leaves of one node each."""
    out = [1]
    for factor in levels(micro_batches):
        out.append(out[-1] * factor)
    return out


def split(micro_batches: int, ranks: int) -> tuple[list[int], list[int]]:
    """The levels that ranks add up together, and those that each adds up alone."""
    assert ranks in valid_sizes(micro_batches), f"{micro_batches} micro-batches over {ranks} ranks"
    at = valid_sizes(micro_batches).index(ranks)
    return levels(micro_batches)[:at], levels(micro_batches)[at:]


def turns(below: Sequence[int]) -> list[int]:
    """The order in which a rank takes its micro-batches: children of a node one after the other."""
    if not below:
        return [0]
    factor, rest = below[0], turns(below[1:])
    return [digit + factor * turn for digit in range(factor) for turn in rest]


class Counter:
    """Which sums are whole after each leaf, taken in `turns`: a stack of partial sums, as many as there are levels at
    most, where one that is not the first of its node is added to the one beneath it.
    """

    def __init__(self, below: Sequence[int]) -> None:
        self._factors = list(reversed(below))  # the lowest level first
        self._leaf = 0

    @property
    def begins(self) -> bool:
        """Whether the next leaf is the first of its node; any other is added to the one before it."""
        return not self._factors or self._leaf % self._factors[0] == 0

    def next(self) -> int:
        """A leaf is done. How many times the topmost sum is now added to the one beneath it."""
        node, merges = self._leaf, 0
        self._leaf += 1
        for factor, above in zip(self._factors, self._factors[1:], strict=False):
            if (node + 1) % factor:
                break
            node //= factor
            merges += node % above > 0
        return merges


def fold(parts: "list[Tensor]", together: Sequence[int]) -> "Tensor":
    """The sum of the ranks' parts, into the first of them."""
    for factor in reversed(together):
        stride = len(parts) // factor
        for digit in range(1, factor):
            for i in range(stride):
                parts[i].add_(parts[i + digit * stride])
        parts = parts[:stride]
    (whole,) = parts
    return whole
