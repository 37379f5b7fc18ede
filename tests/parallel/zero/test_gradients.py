"""bf16 gradients are added up in float32, at every stage."""

import numpy as np
import pytest
import torch

from tests.parallel.zero import precision

torch.set_num_threads(1)
MICRO_BATCHES = 128
"""The long form, `python -m tests.parallel.zero.precision`, takes 512."""


@pytest.fixture(scope="module")
def distances() -> dict[str, float]:
    return precision.measure(MICRO_BATCHES, [1, 2], [0, 1, 2, 3], {})


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("world", [1, 2])
def test_a_gradient_of_many_micro_batches_is_as_near_the_truth_as_sums_in_fp32_are(
    world: int, stage: int, distances: dict[str, float]
) -> None:
    """The sums differ in their order alone, which in fp32 is 1e-7 of the distance of bf16's arithmetic."""
    np.testing.assert_allclose(distances[f"{world}/{stage}"], distances["reference"], rtol=1e-3)


def test_sums_in_bf16_would_be_found_out(distances: dict[str, float]) -> None:
    in_bf16 = precision.distance(precision.naive(MICRO_BATCHES), precision.plain(MICRO_BATCHES, torch.float32))
    assert in_bf16 > 1.5 * distances["reference"]
