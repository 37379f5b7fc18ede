"""Accelerators: what their makers state, and what runs on them have been measured to reach.

Every number has its source beside it. Peaks are dense (without sparsity). `measured` says which runs the constants of
the time model were fitted to; where none were published, those of the nearest relative stand in, and the plan says so.
"""

import difflib
from dataclasses import dataclass, replace

from raypt.accelerators import STATED
from raypt.errors import UserError
from raypt.run.planner.step_time import Constants

GB = 10**9
_FOUNDRY = "fitted to llm-foundry's published runs (mosaicml/llm-foundry, scripts/train/benchmarking)"

# Printed by `python -m tests.run.planner.constants`, from all of the runs. `tensor` is Megatron-LM's on A100s, by the
# ratio of the links on H100s.
H100 = Constants(
    efficiency=0.648,
    half_width=796,
    half_tokens=282,
    attention=0.15,
    recompute=0.641,
    overlap=0.248,
    pressure=0.382,
    intra=2.02e11,
    inter=1.32e11,
    spread=45.5,
    tensor=2.23e11,
    fp8=1.34,
    traffic=0,
    overhead_s=0.0294,
)
A100_80 = Constants(
    efficiency=0.777,
    half_width=488,
    half_tokens=69.8,
    attention=0.268,
    recompute=0.564,
    overlap=0.242,
    pressure=0.358,
    intra=1.87e11,
    inter=4.34e10,
    spread=173,
    tensor=1.49e11,
    fp8=1.3,
    traffic=0,
    overhead_s=0.0776,
)
A100_40 = Constants(
    efficiency=0.772,
    half_width=568,
    half_tokens=130,
    attention=0.272,
    recompute=0.812,
    overlap=0.0947,
    pressure=0.611,
    intra=1.97e10,
    inter=4.81e10,
    spread=10.8,
    tensor=1.49e11,
    fp8=1.3,
    traffic=0,
    overhead_s=0.0549,
)
MEGATRON_A100 = Constants(
    efficiency=0.7,
    half_width=533,
    half_tokens=1e-09,
    attention=0.222,
    recompute=0.994,
    overlap=0,
    pressure=0,
    intra=1.2e11,
    inter=4.06e10,
    spread=1e12,
    tensor=1.49e11,
    fp8=1.3,
    traffic=25.2,
    overhead_s=0.0359,
)


@dataclass(frozen=True)
class Accelerator:
    """A device as one worker sees it."""

    name: str
    memory_bytes: int
    flops: float
    """Dense bf16, a second."""
    flops_fp8: float | None
    bandwidth: float
    """Of its memory, bytes a second."""
    intra: float
    """To the other devices of a node, bytes a second in one direction."""
    inter: float
    """To other nodes, bytes a second and device, of the usual machine."""
    per_node: int
    source: str
    constants: Constants
    measured: str
    gpu: bool = True


def _relative(base: Constants, of: "Accelerator", flops: float, intra: float, inter: float) -> Constants:
    """A relative's constants on other links."""
    return replace(
        base,
        intra=base.intra * intra / of.intra,
        inter=base.inter * inter / of.inter,
        tensor=base.tensor * intra / of.intra,
    )


_H100 = Accelerator(
    "h100", 80 * GB, STATED["H100"], 1979e12, 3.35e12, 450e9, 50e9, 8,
    "NVIDIA H100 datasheet (SXM): 989 TFLOP/s bf16, 1,979 fp8, 3.35 TB/s; NVLink 900 GB/s both ways; DGX H100: 8 x "
    "400 Gb/s",
    H100, _FOUNDRY,
)  # fmt: skip
_A100_80 = Accelerator(
    "a100-80", 80 * GB, STATED["A100"], None, 2.039e12, 300e9, 25e9, 8,
    "NVIDIA A100 datasheet (SXM 80 GB): 312 TFLOP/s bf16, 2,039 GB/s; NVLink 600 GB/s both ways; DGX A100: 8 x "
    "200 Gb/s",
    A100_80, _FOUNDRY,
)  # fmt: skip
_A100_40 = Accelerator(
    "a100-40", 40 * GB, STATED["A100"], None, 1.555e12, 300e9, 25e9, 8,
    "NVIDIA A100 datasheet (SXM 40 GB): 312 TFLOP/s bf16, 1,555 GB/s; NVLink 600 GB/s both ways; DGX A100: 8 x "
    "200 Gb/s",
    A100_40, _FOUNDRY,
)  # fmt: skip
# `compiled`: 2,822 over 2,513 tokens a second in bf16 (docs/performance.md).
_CPU_SOURCE = "a guess of one core of a cloud CPU: `raypt bench plan` calibrates the machine at hand (plan.bench)"

ACCELERATORS: dict[str, Accelerator] = {
    a.name: a
    for a in (
        _H100,
        _A100_80,
        _A100_40,
        Accelerator(
            "h200", 141 * GB, STATED["H200"], 1979e12, 4.8e12, 450e9, 50e9, 8,
            "NVIDIA H200 datasheet (SXM): as H100, 141 GB at 4.8 TB/s",
            H100, "H100's constants: the same compute and links",
        ),
        Accelerator(
            "b200", 180 * GB, STATED["B200"], 4500e12, 8e12, 900e9, 50e9, 8,
            "NVIDIA DGX B200 datasheet: 1,440 GB and 72 PFLOP/s fp8, 36 bf16 with sparsity for 8, 64 TB/s; NVLink "
            "14.4 TB/s; 8 x 400 Gb/s",
            _relative(H100, _H100, 2250e12, 900e9, 50e9), "H100's constants on faster links: not measured",
        ),
        Accelerator(
            "l40s", 48 * GB, STATED["L40S"], 733e12, 0.864e12, 32e9, 12.5e9, 8,
            "NVIDIA L40S datasheet: 362 TFLOP/s bf16, 733 fp8, 864 GB/s; PCIe 4.0 x16 64 GB/s both ways",
            _relative(A100_40, _A100_40, 362e12, 32e9, 12.5e9), "A100-40's constants on PCIe: not measured",
        ),
        Accelerator(
            "a10g", 24 * GB, STATED["A10G"], None, 0.6e12, 32e9, 3.1e9, 4,
            "AWS G5 and NVIDIA A10 datasheet: 24 GB at 600 GB/s, A10G 70 TFLOP/s bf16 dense; PCIe 4.0; 100 Gb/s a node",
            _relative(A100_40, _A100_40, 70e12, 32e9, 3.1e9), "A100-40's constants on PCIe: not measured",
        ),
        Accelerator(
            "rtx-4090", 24 * GB, STATED["RTX 4090"], 330.3e12, 1.008e12, 32e9, 1.25e9, 8,
            "NVIDIA Ada architecture whitepaper: 165.2 TFLOP/s bf16 with fp32 accumulation, 1,008 GB/s; PCIe 4.0; "
            "10 Gb/s Ethernet",
            _relative(A100_40, _A100_40, 165.2e12, 32e9, 1.25e9), "A100-40's constants on PCIe: not measured",
        ),
        Accelerator(
            "cpu", 0, 5e10, None, 1e10, 5e9, 1.25e9, 1, _CPU_SOURCE,
            Constants(
                efficiency=0.8, half_width=64, half_tokens=64, attention=0.4, recompute=1.0, overlap=1.0, pressure=0,
                intra=1e9, inter=1e8, tensor=1e9, compiled=1.12, overhead_s=0.02,
            ),
            _CPU_SOURCE, gpu=False,
        ),
    )
}  # fmt: skip
ALIASES = {"a100": "a100-80", "a100-80gb": "a100-80", "a100-40gb": "a100-40", "4090": "rtx-4090", "rtx4090": "rtx-4090"}


def accelerator(name: str, key: str = "plan.cluster.accelerator") -> Accelerator:
    """By name. Raises UserError, saying what is known."""
    found = ACCELERATORS.get(ALIASES.get(name.lower(), name.lower()))
    if found is None:
        near = difflib.get_close_matches(name.lower(), [*ACCELERATORS, *ALIASES], 1, 0.5)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise UserError(f"{key}: {name!r} is not in the catalogue{hint} Known are {', '.join(ACCELERATORS)}")
    return found
