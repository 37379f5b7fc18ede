"""What the makers of accelerators state of their speed."""

STATED = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
    "B200": 2250e12,
    "L40S": 362e12,
    "A10G": 70e12,
    "RTX 4090": 165.2e12,
}
"""A part of the name that CUDA gives a device -> dense bf16 FLOP/s (NVIDIA's datasheets, without sparsity; 4090: with
fp32 accumulation). The planner's catalogue takes these too."""


def stated_flops(device_name: str, precision: str) -> float | None:
    """The stated peak of a device; None if it is not in the table, or the precision is not bf16."""
    if precision != "bf16":
        return None
    return next((flops for part, flops in STATED.items() if part in device_name), None)
