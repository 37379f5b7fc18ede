"""The batch arithmetic."""

import numpy as np
import pytest

from raypt.errors import UserError
from raypt.training.batch_plan import plan_batches, valid_data_sizes


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6, 12])
def test_a_step_is_the_same_samples_for_every_number_of_workers(world: int) -> None:
    plan = plan_batches(global_batch_tokens=12 * 2 * 16, sequence_length=16, micro_batch_size=2, data_size=world)
    assert plan.samples_per_step == 24
    starts = plan.starts(first_sample=240)
    assert starts.shape == (world, 12 // world)
    assert np.array_equal(np.sort(starts.ravel()), np.arange(240, 264, 2))


def test_valid_data_sizes_are_the_divisors_of_the_micro_batches() -> None:
    assert valid_data_sizes(6 * 2 * 16, 16, 2) == [1, 2, 3, 6]
    with pytest.raises(UserError, match="the nearest are 96 and 128"):
        valid_data_sizes(100, 16, 2)


def test_an_impossible_number_of_replicas_is_refused_with_the_possible_ones() -> None:
    with pytest.raises(UserError, match="1, 2, 3, 6"):
        plan_batches(global_batch_tokens=6 * 2 * 16, sequence_length=16, micro_batch_size=2, data_size=4)


def test_an_indivisible_global_batch_is_refused_with_the_nearest_ones() -> None:
    with pytest.raises(UserError, match="96 and 128"):
        plan_batches(global_batch_tokens=100, sequence_length=16, micro_batch_size=2, data_size=1)


def test_of_a_global_batch_below_one_micro_batch_the_smallest_is_named_once() -> None:
    with pytest.raises(UserError) as refused:
        valid_data_sizes(100, 1024, 2)
    assert str(refused.value).endswith("= 2048; the smallest is 2048")
