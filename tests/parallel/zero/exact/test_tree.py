"""One tree of sums, whoever adds them up."""

import pytest
import torch
from torch import Tensor

from raypt.parallel.zero.exact.tree import Counter, fold, levels, split, turns, valid_sizes


def summed(leaves: list[Tensor], ranks: int) -> Tensor:
    """As so many ranks do it: rank r has the leaves j ranks + r."""
    together, alone = split(len(leaves), ranks)
    parts = []
    for rank in range(ranks):
        stack: list[Tensor] = []
        counter = Counter(alone)
        for turn in turns(alone):
            leaf = leaves[turn * ranks + rank]
            if counter.begins:
                stack.append(leaf.clone())
            else:
                stack[-1].add_(leaf)
            for _ in range(counter.next()):
                above = stack.pop()
                stack[-1].add_(above)
            assert len(stack) <= max(1, len(alone)), "no more partial sums than levels"
        (part,) = stack
        parts.append(part)
    return fold(parts, together)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 8, 12, 16, 18, 30, 32])
def test_every_valid_number_of_ranks_gives_the_same_bits(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    leaves = [torch.randn(4096, generator=generator) * 10.0 ** (i % 5) for i in range(count)]
    sums = [summed(leaves, ranks) for ranks in valid_sizes(count)]
    assert all(torch.equal(sums[0], other) for other in sums[1:])
    torch.testing.assert_close(sums[0].double(), torch.stack(leaves).double().sum(0), rtol=1e-4, atol=1e-1)


def test_these_leaves_have_other_bits_in_another_order() -> None:
    generator = torch.Generator().manual_seed(8)
    leaves = [torch.randn(4096, generator=generator) for _ in range(8)]
    assert not torch.equal(summed(leaves, 2), sum(leaves[1:], leaves[0]))


def test_the_tree_of_a_power_of_two_is_binary() -> None:
    leaves = [torch.tensor(10.0**-i) for i in range(8)]
    a, b, c, d, e, f, g, h = leaves
    assert summed(leaves, 1) == ((a + e) + (c + g)) + ((b + f) + (d + h))


def test_valid_numbers_of_ranks_are_products_of_the_first_levels() -> None:
    assert levels(12) == [2, 2, 3]
    assert valid_sizes(12) == [1, 2, 4, 12]
    assert valid_sizes(16) == [1, 2, 4, 8, 16]
    with pytest.raises(AssertionError):
        split(12, 3)
