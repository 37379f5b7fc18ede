"""The peak that MFU is measured against: the machine's own matrix products."""

import time

import torch


def matmul_flops(device: torch.device, precision: str, size: int = 1536, repeats: int = 5) -> float:
    """FLOP/s of the best of `repeats` square matrix products with this process's threads. Takes well under a second."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    size = size if device.type == "cpu" else 8192
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(repeats + 1):
        started = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best
