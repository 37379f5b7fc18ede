"""DeepSpeed's configuration: what raypt sets, and what a person may add."""

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from raypt.errors import UserError
from raypt.parallel.config import ZeroConfig

EXTRA = "train.zero.deepspeed"
EXTRA_NAMES = frozenset({
    "activation_checkpointing", "aio", "bf16", "comms_logger", "communication_data_type", "data_types",
    "disable_allgather", "disable_python_gc", "dump_state", "flops_profiler", "gradient_predivide_factor", "log_level",
    "memory_breakdown", "prescale_gradients", "timers", "wall_clock_breakdown", "zero_optimization",
})  # fmt: skip
"""Top-level names of DeepSpeed's configuration that a person may add: those that leave the mathematics to raypt."""
SET_NAMES = frozenset({
    "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps",
    "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer", "steps_per_print",
})  # fmt: skip
"""Those that raypt sets."""
INSTEAD = {
    "gradient_clipping": "train.optimizer.clip_norm",
    "optimizer": "train.optimizer",
    "scheduler": "train.schedule",
    "fp16": "train.precision",
    "amp": "train.precision",
    "torch_autocast": "train.precision",
}


def deepspeed_config(
    zero: ZeroConfig,
    *,
    precision: str,
    clip_norm: float | None,
    micro_batch_size: int,
    accumulation: int,
    world: int,
    use_gpu: bool = False,
) -> dict[str, Any]:
    """DeepSpeed's JSON, with the user's extra keys merged in.

    Raises:
        UserError: an extra key that raypt sets itself, that DeepSpeed does not know, or whose value it refuses.
    """
    _check_extra(zero.deepspeed, precision)
    section: dict[str, Any] = {"stage": zero.stage, "reduce_bucket_size": bucket_elements(zero, use_gpu=use_gpu)}
    if zero.overlap_comm is not None:
        section["overlap_comm"] = zero.overlap_comm
    for name, where in (("offload_optimizer", zero.offload_optimizer), ("offload_param", zero.offload_params)):
        if where is not None:
            section[name] = {"device": where} | ({"nvme_path": zero.nvme_path} if where == "nvme" else {})
    config: dict[str, Any] = {
        "train_batch_size": micro_batch_size * accumulation * world,
        "train_micro_batch_size_per_gpu": micro_batch_size,
        "gradient_accumulation_steps": accumulation,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
        "zero_optimization": section,
    }
    # Left out, DeepSpeed would clip to 1. Below stage 3 raypt sums and clips (`updates`).
    config["gradient_clipping"] = (clip_norm or 0.0) if zero.stage == 3 else 0.0
    if zero.stage == 3:
        config["data_types"] = {"grad_accum_dtype": "fp32"}
        config["communication_data_type"] = zero.communication_dtype
    if precision == "bf16":
        config["bf16"] = {"enabled": True, "check_grad_overflow": True}
    merged = _merged(config, zero.deepspeed, EXTRA)
    if "zero_optimization" in zero.deepspeed:
        from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

        try:
            DeepSpeedZeroConfig(**merged["zero_optimization"])
        except ValidationError as e:
            problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in e.errors())
            raise UserError(f"{EXTRA}.zero_optimization: DeepSpeed refuses {problems}") from None
    return merged


def bucket_elements(zero: ZeroConfig, *, use_gpu: bool) -> int:
    """Gradient elements sent at once."""
    return zero.reduce_bucket_elements or (50_000_000 if use_gpu else 8_000_000)


def _check_extra(extra: Mapping[str, Any], precision: str) -> None:
    """DeepSpeed itself passes over a name it does not know, and obeys some that would undo what raypt computes."""
    for name in extra:
        if name in INSTEAD:
            raise UserError(f"{EXTRA}.{name}: raypt does this itself; use {INSTEAD[name]} instead")
        if name == "bf16" and precision != "bf16":
            raise UserError(f"{EXTRA}.bf16: train.precision is {precision}; set train.precision=bf16 with it")
        if name not in EXTRA_NAMES | SET_NAMES:
            near = difflib.get_close_matches(name, [*EXTRA_NAMES, *INSTEAD], n=1)
            meant = f"; did you mean {INSTEAD.get(near[0], near[0])}?" if near else ""
            raise UserError(f"{EXTRA}.{name} is none of {', '.join(sorted(EXTRA_NAMES))}{meant}")


def check_deepspeed(zero: ZeroConfig, precision: str) -> None:
    """Find a mistake in `train.zero.deepspeed` before any work is done; DeepSpeed is not loaded if nothing is there."""
    if zero.deepspeed:
        deepspeed_config(zero, precision=precision, clip_norm=None, micro_batch_size=1, accumulation=1, world=1)


def _merged(base: Mapping[str, Any], extra: Mapping[str, Any], where: str) -> dict[str, Any]:
    out = dict(base)
    for name, value in extra.items():
        if isinstance(out.get(name), dict) and isinstance(value, dict):
            out[name] = _merged(out[name], value, f"{where}.{name}")
        elif name in out:
            raise UserError(f"{where}.{name} is set by raypt from its own keys; use those instead")
        else:
            out[name] = value
    return out
