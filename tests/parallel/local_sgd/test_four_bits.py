"""Four bits a value: what is kept, and how much is lost."""

import pytest
import torch

from raypt.parallel.local_sgd.four_bits import BLOCK, LEVELS, pack, packed_bytes, unpack

pytestmark = pytest.mark.fast


def test_what_can_be_said_in_four_bits_is_kept_exactly() -> None:
    signs = torch.tensor([1.0, -1.0]).repeat(BLOCK // 2)
    values = torch.cat([LEVELS.repeat(BLOCK // 8) * signs * scale for scale in (1.0, 3e-5, 7e8)])
    assert torch.equal(unpack(pack(values)), values)
    assert pack(values).numel() == packed_bytes(values.numel())


def test_a_value_is_off_by_a_third_at_most_or_by_a_128th_of_the_largest_of_its_block() -> None:
    values = torch.randn(64 * BLOCK, generator=torch.Generator().manual_seed(0)) * 1e-3
    error = (unpack(pack(values)) - values).abs()
    largest = values.view(-1, BLOCK).abs().amax(dim=1, keepdim=True).expand(-1, BLOCK).reshape(-1)
    # Between 2^-e and 2^-e-1 the middle, 3/4 of the former, is a third of itself from both.
    assert (error <= torch.maximum(values.abs() / 3, largest / 128) * (1 + 1e-6)).all()
    assert error.mean() < values.abs().mean() / 5


def test_a_block_of_zeros_stays_one_and_rounding_leans_to_no_side() -> None:
    assert not unpack(pack(torch.zeros(BLOCK))).any()
    values = torch.rand(400 * BLOCK, generator=torch.Generator().manual_seed(1))
    assert float(unpack(pack(values)).mean()) == pytest.approx(float(values.mean()), rel=0.03)
