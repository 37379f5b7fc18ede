"""Which numbers of workers an elastic run may have."""

import pytest
from ray.train.v2.api.config import ScalingConfig

from raypt.training.on_ray.scaling import BatchScalingPolicy
from raypt.training.sizes import check_workers
from tests.training import tiny_run

TRAIN = tiny_run.train_config().model_copy(update={"workers": (1, 7)})
"""A global batch of eight micro-batches: 1, 2, 4 or 8 workers share it evenly."""


@pytest.mark.parametrize(("cpus", "workers"), [([1], 1), ([2, 1], 2), ([3, 0.5], 2), ([4, 3], 4), ([0.5], 0), ([], 0)])
def test_the_largest_valid_number_that_fits_is_taken(cpus: list[float], workers: int) -> None:
    config = ScalingConfig(num_workers=(1, 4), resources_per_worker={"CPU": 1})
    policy = BatchScalingPolicy(config, check_workers(TRAIN, tiny_run.LENGTH))
    reserved = {f"node-{i}": {"CPU": float(n)} for i, n in enumerate(cpus)}
    assert policy._count_possible_workers(reserved) == workers
