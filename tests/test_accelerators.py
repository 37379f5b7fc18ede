"""What a device is stated to reach."""

import pytest

from raypt.accelerators import STATED, stated_flops
from raypt.run.planner.catalogue import ACCELERATORS


@pytest.mark.parametrize(
    ("name", "flops"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_a_device_is_known_by_the_name_that_cuda_gives_it(name: str, flops: float | None) -> None:
    assert stated_flops(name, "bf16") == flops


def test_nothing_is_stated_for_another_precision() -> None:
    assert stated_flops("NVIDIA H100 80GB HBM3", "fp32") is None


def test_the_planner_counts_with_the_same_peaks() -> None:
    assert {a.flops for a in ACCELERATORS.values() if a.gpu} <= set(STATED.values())
