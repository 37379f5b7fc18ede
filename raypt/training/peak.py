"""What speed is measured against where no maker's figure is stated: the machine's own matrix products.

A share of that is no MFU: a loaded machine multiplies slowly too, and then the share is high (0.87 was seen).
"""

import functools
import logging
import time

import torch

log = logging.getLogger("raypt")

LONG_ENOUGH_S = 0.02
"""Of a product on a CPU: then its beginning and end weigh nothing."""
SLOWER = 2.0
"""How many times slower than fp32 bf16 is to be, to be warned of: half the bytes are worth something."""


def matmul_flops(device: torch.device, precision: str, repeats: int = 5) -> float:
    """FLOP/s of the best of `repeats` square matrix products with this process's threads, laid out as a layer's.

    Takes well under a second: 8192 wide on a GPU, on a CPU as wide as takes long enough, 1536 at most. Without
    instructions for bf16 a CPU multiplies up to 60 times slower in it.
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32

    def seconds(size: int, repeats: int) -> float:
        x, w = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        best = float("inf")
        for _ in range(repeats + 1):
            started = time.perf_counter()
            x @ w.T
            if device.type == "cuda":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - started)
        return best

    size = 8192 if device.type != "cpu" else 192
    while device.type == "cpu" and size < 1536 and seconds(size, 1) < LONG_ENOUGH_S:
        size *= 2
    return 2 * size**3 / seconds(size, repeats)


@functools.lru_cache
def measured_flops(device: torch.device, precision: str, threads: int) -> float:
    """`matmul_flops`, once a process: for a small model it takes as long as many steps. `threads`: torch's."""
    return matmul_flops(device, precision)


def warn_of_slow_bf16() -> None:
    """On CPUs: say it where bf16, which is faster elsewhere, is slower than fp32."""
    fp32, bf16 = (matmul_flops(torch.device("cpu"), precision) for precision in ("fp32", "bf16"))
    if fp32 > SLOWER * bf16:
        log.warning(
            "train.precision=bf16: this CPU has no instructions for it and multiplies %.0f times slower than in fp32; "
            "set train.precision=fp32",
            fp32 / bf16,
        )
