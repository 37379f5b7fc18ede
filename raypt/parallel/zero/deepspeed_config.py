"""DeepSpeed's configuration: what raypt sets, and what a person may add."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from raypt.errors import UserError
from raypt.parallel.config import ZeroConfig

EXTRA = "train.zero.deepspeed"
EVERY_STAGE = (0, 1, 2, 3)
EXTRA_NAMES: dict[str, tuple[int, ...]] = {
    "aio": (3,),
    "comms_logger": EVERY_STAGE,
    "disable_python_gc": EVERY_STAGE,
    "dump_state": EVERY_STAGE,
    "flops_profiler": EVERY_STAGE,
    "log_level": EVERY_STAGE,
    "memory_breakdown": EVERY_STAGE,
    "timers": EVERY_STAGE,
    "wall_clock_breakdown": EVERY_STAGE,
    "zero_optimization.allgather_bucket_size": (1, 2),
    "zero_optimization.contiguous_gradients": (3,),
    "zero_optimization.enable_sanity_checks": (3,),
    "zero_optimization.log_trace_cache_warnings": (3,),
    "zero_optimization.memory_efficient_linear": (3,),
    "zero_optimization.offload_optimizer.buffer_count": (3,),
    "zero_optimization.offload_optimizer.fast_init": (3,),
    "zero_optimization.offload_optimizer.pin_memory": (1, 2, 3),
    "zero_optimization.offload_optimizer.pipeline_read": (3,),
    "zero_optimization.offload_optimizer.pipeline_write": (3,),
    "zero_optimization.offload_param.buffer_count": (3,),
    "zero_optimization.offload_param.buffer_size": (3,),
    "zero_optimization.offload_param.max_in_cpu": (3,),
    "zero_optimization.offload_param.pin_memory": (3,),
    "zero_optimization.override_module_apply": (3,),
    "zero_optimization.parameter_alignment": (1, 2),
    "zero_optimization.reduce_scatter": (3,),
    "zero_optimization.round_robin_gradients": (1, 2),
    "zero_optimization.stage3_allgather_sequential": (3,),
    "zero_optimization.stage3_max_live_parameters": (3,),
    "zero_optimization.stage3_max_reuse_distance": (3,),
    "zero_optimization.stage3_model_persistence_threshold": (3,),
    "zero_optimization.stage3_module_granularity_threshold": (3,),
    "zero_optimization.stage3_param_persistence_threshold": (3,),
    "zero_optimization.stage3_prefetch_bucket_size": (3,),
    "zero_optimization.stage3_use_all_reduce_for_fetch_params": (3,),
    "zero_optimization.sub_group_size": (3,),
}
"""Keys of DeepSpeed's configuration that a person may add, with the stages where they do something: those that leave
the mathematics and the layout of checkpoints to raypt. A test takes each through a step, a save and a restore.
"""
SET_NAMES = frozenset({
    "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps",
    "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer", "steps_per_print",
    "zero_optimization.stage", "zero_optimization.reduce_bucket_size", "zero_optimization.overlap_comm",
    "zero_optimization.offload_optimizer.device", "zero_optimization.offload_optimizer.nvme_path",
    "zero_optimization.offload_param.device", "zero_optimization.offload_param.nvme_path",
})  # fmt: skip
"""Those that raypt sets from keys of its own."""
INSTEAD = {
    "activation_checkpointing": "train.activation_checkpointing",
    "amp": "train.precision",
    "bf16": "train.precision",
    "communication_data_type": "train.zero.communication_dtype",
    "fp16": "train.precision",
    "gradient_clipping": "train.optimizer.clip_norm",
    "optimizer": "train.optimizer",
    "scheduler": "train.schedule",
    "torch_autocast": "train.precision",
    "zero_optimization.cpu_offload": "train.zero.offload_optimizer",
    "zero_optimization.cpu_offload_param": "train.zero.offload_params",
}
REFUSED = {
    "data_types": "gradients are added up in fp32 at every stage",
    "gradient_predivide_factor": "gradients are added up, never averaged, so there is nothing to divide before",
    "prescale_gradients": "gradients are added up, never averaged, so there is nothing to divide before",
    "zero_optimization.zenflow": "it builds another optimizer, whose state raypt cannot save",
    "zero_optimization.elastic_checkpoint": "raypt writes its own checkpoints, which any number of workers resumes",
    "zero_optimization.zero_quantized_weights": "it computes with rounded weights",
    "zero_optimization.zero_quantized_gradients": "it rounds gradients to 4 bits",
    "zero_optimization.zero_hpz_partition_size": "its second copy of the weights is not kept in step with a restore",
}
"""Keys that a person may well look for, and why they are not passed on."""


def deepspeed_config(
    zero: ZeroConfig,
    *,
    precision: str,
    clip_norm: float | None,
    micro_batch_size: int,
    accumulation: int,
    world: int,
    use_gpu: bool = False,
    exact: bool = False,
) -> dict[str, Any]:
    """DeepSpeed's JSON, with the user's extra keys merged in. `exact`: each stage computes with the same kernels.

    Raises:
        UserError: an extra key that raypt sets itself, that does nothing here, that DeepSpeed does not know, or whose
            value it refuses.
    """
    check_deepspeed(zero)
    section: dict[str, Any] = {"stage": zero.stage, "reduce_bucket_size": bucket_elements(zero, use_gpu=use_gpu)}
    if zero.overlap_comm is not None:
        section["overlap_comm"] = zero.overlap_comm
    if exact and zero.stage == 3:
        section["memory_efficient_linear"] = False  # else gradients of weights are products of another order
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
    return _merged(config, zero.deepspeed)


def bucket_elements(zero: ZeroConfig, *, use_gpu: bool) -> int:
    """Gradient elements sent at once."""
    return zero.reduce_bucket_elements or (50_000_000 if use_gpu else 8_000_000)


def check_deepspeed(zero: ZeroConfig) -> None:
    """Find a mistake in `train.zero.deepspeed` before any work is done. DeepSpeed itself passes over a name it does not
    know, and obeys some that would undo what raypt computes; it is loaded for its section `zero_optimization` alone.

    Raises:
        UserError: see `deepspeed_config`.
    """
    unset = {"offload_optimizer": zero.offload_optimizer is None, "offload_param": zero.offload_params is None}
    for name in _leaves(zero.deepspeed):
        where = f"{EXTRA}.{name}"
        if name in INSTEAD:
            raise UserError(f"{where}: raypt does this itself; use {INSTEAD[name]} instead")
        if name in SET_NAMES:
            raise UserError(f"{where} is set by raypt from its own keys; use those instead")
        if name in REFUSED:
            raise UserError(f"{where}: {REFUSED[name]}; leave it out")
        if name not in EXTRA_NAMES:
            near = difflib.get_close_matches(name, [*EXTRA_NAMES, *INSTEAD], n=1)
            meant = f"; did you mean {INSTEAD.get(near[0], near[0])}?" if near else ""
            raise UserError(f"{where} is none of {', '.join(EXTRA_NAMES)}{meant}")
        if zero.stage not in (stages := EXTRA_NAMES[name]):
            raise UserError(
                f"{where} does nothing at train.zero.stage={zero.stage}, only at {', '.join(map(str, stages))}; leave "
                "it out, or take another stage"
            )
        if unset.get(name.split(".")[1] if "." in name else name):
            raise UserError(
                f"{where} does nothing where nothing is offloaded; set train.zero.offload_*, or leave it out"
            )
    if "zero_optimization" in zero.deepspeed:
        from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

        try:
            DeepSpeedZeroConfig(**zero.deepspeed["zero_optimization"])
        except ValidationError as e:
            problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in e.errors())
            raise UserError(f"{EXTRA}.zero_optimization: DeepSpeed refuses {problems}") from None


def _leaves(extra: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Dotted names, down to what EXTRA_NAMES, SET_NAMES, INSTEAD and REFUSED speak of."""
    for name, value in extra.items():
        inside = name == "zero_optimization" or path + name in (
            "zero_optimization.offload_optimizer",
            "zero_optimization.offload_param",
        )
        if inside and isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield path + name


def _merged(base: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for name, value in extra.items():
        nested = isinstance(out.get(name), dict) and isinstance(value, Mapping)
        out[name] = _merged(out[name], value) if nested else value
    return out
