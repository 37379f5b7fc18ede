"""What DeepSpeed is told."""

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from raypt.errors import UserError
from raypt.parallel.config import ZeroConfig
from raypt.parallel.zero.deepspeed_config import EXTRA_NAMES, INSTEAD, REFUSED, check_deepspeed, deepspeed_config
from tests.parallel.ranks import run_ranks


def test_extra_deepspeed_keys_are_merged() -> None:
    zero = ZeroConfig(deepspeed={"zero_optimization": {"round_robin_gradients": True}, "wall_clock_breakdown": True})
    config = deepspeed_config(zero, precision="bf16", clip_norm=1.0, micro_batch_size=2, accumulation=3, world=4)
    assert config["zero_optimization"]["round_robin_gradients"] is True
    assert config["zero_optimization"]["stage"] == 1
    assert config["wall_clock_breakdown"] is True
    assert config["train_batch_size"] == 24


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"zero_optimization": {"stage": 3}}, "zero_optimization.stage is set by raypt"),
        ({"zero_optimization": {"bogus": 1}}, "zero_optimization.bogus is none of"),
        ({"gradient_clipping": 5}, "use train.optimizer.clip_norm instead"),
        ({"gradient_cliping": 5}, "did you mean train.optimizer.clip_norm?"),
        ({"optimizer": {"type": "Adam"}}, "use train.optimizer instead"),
        ({"scheduler": {"type": "WarmupLR"}}, "use train.schedule instead"),
        ({"fp16": {"enabled": True}}, "use train.precision instead"),
        ({"bf16": {"enabled": True}}, "use train.precision instead"),
        ({"data_types": {"grad_accum_dtype": "fp32"}}, "gradients are added up in fp32 at every stage"),
        ({"zero_optimization": {"sub_group_size": 1000}}, "does nothing at train.zero.stage=1, only at 3"),
        ({"zero_optimization": {"offload_optimizer": {"pin_memory": True}}}, "where nothing is offloaded"),
        ({"zero_optimization": {"allgather_bucket_size": "wide"}}, "DeepSpeed refuses allgather_bucket_size"),
        ({"zero_optimization": {"zenflow": {}}}, "it builds another optimizer"),
    ],
)
def test_an_extra_deepspeed_key_that_would_be_ignored_or_undo_what_raypt_does_is_refused(
    extra: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        check_deepspeed(ZeroConfig(deepspeed=extra))


def test_nvme_offload_reaches_deepspeed() -> None:
    """What DeepSpeed is told, wherever it runs."""
    zero = ZeroConfig(stage=3, offload_optimizer="nvme", offload_params="nvme", nvme_path="/local/nvme")
    config = deepspeed_config(zero, precision="bf16", clip_norm=1.0, micro_batch_size=1, accumulation=1, world=1)
    section = config["zero_optimization"]
    assert section["offload_optimizer"] == section["offload_param"] == {"device": "nvme", "nvme_path": "/local/nvme"}
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    parsed = DeepSpeedZeroConfig(**section)
    assert parsed.offload_optimizer is not None and parsed.offload_param is not None
    assert parsed.offload_optimizer.device == parsed.offload_param.device == "nvme"
    assert str(parsed.offload_param.nvme_path) == "/local/nvme"


def test_communication_settings_reach_deepspeed() -> None:
    zero = ZeroConfig(stage=3, overlap_comm=True, reduce_bucket_elements=1234)
    config = deepspeed_config(zero, precision="fp32", clip_norm=None, micro_batch_size=1, accumulation=1, world=1)
    assert config["zero_optimization"]["overlap_comm"] is True
    assert config["zero_optimization"]["reduce_bucket_size"] == 1234


def test_without_a_clip_norm_deepspeed_does_not_clip() -> None:
    """Its own default is a norm of 1."""
    config = deepspeed_config(
        ZeroConfig(), precision="fp32", clip_norm=None, micro_batch_size=1, accumulation=1, world=1
    )
    assert config["gradient_clipping"] == 0


VALUES: dict[str, Any] = {
    "aio": {"block_size": 1 << 20},
    "comms_logger": {"enabled": True, "verbose": False, "prof_all": True, "debug": False},
    "flops_profiler": {"enabled": True, "profile_step": 1, "detailed": False},
    "log_level": "error",
    "timers": {"throughput": {"enabled": False}},
    "zero_optimization.contiguous_gradients": False,
    "zero_optimization.memory_efficient_linear": False,
    "zero_optimization.override_module_apply": False,
    "zero_optimization.reduce_scatter": False,
    "zero_optimization.allgather_bucket_size": 1000,
    "zero_optimization.sub_group_size": 1000,
    "zero_optimization.offload_optimizer.buffer_count": 5,
    "zero_optimization.offload_param.buffer_count": 6,
    "zero_optimization.offload_param.buffer_size": 100_000,
    "zero_optimization.offload_param.max_in_cpu": 100_000,
    "zero_optimization.stage3_max_live_parameters": 10_000,
    "zero_optimization.stage3_max_reuse_distance": 10_000,
    "zero_optimization.stage3_model_persistence_threshold": 10_000,
    "zero_optimization.stage3_module_granularity_threshold": 1000,
    "zero_optimization.stage3_param_persistence_threshold": 0,
    "zero_optimization.stage3_prefetch_bucket_size": 10_000,
}
"""What a person might set; True where it is not said. None is DeepSpeed's default."""


def settings(names: Iterable[str], stage: int) -> dict[str, Any]:
    """`train.zero` with these keys, and with the offloading that they are for."""
    out: dict[str, Any] = {"stage": stage, "deepspeed": {}}
    for name in names:
        *parents, last = name.split(".")
        at = out["deepspeed"]
        for part in parents:
            at = at.setdefault(part, {})
        at[last] = VALUES.get(name, True)
        if "offload_" in name:
            out["offload_optimizer"] = "cpu"
        if "offload_param" in name:
            out["offload_params"] = "cpu"
    return out


def test_each_key_is_allowed_at_its_stages_and_refused_with_the_reason_at_the_others() -> None:
    for name, stages in EXTRA_NAMES.items():
        for stage in range(4):
            if stage in stages:
                check_deepspeed(ZeroConfig.model_validate(settings([name], stage)))
            elif "offload_" not in name:
                with pytest.raises(UserError, match=re.escape(f"{name} does nothing at train.zero.stage={stage}")):
                    check_deepspeed(ZeroConfig.model_validate(settings([name], stage)))
    assert not set(EXTRA_NAMES) & (set(INSTEAD) | set(REFUSED))


def together() -> dict[str, list[str]]:
    """All keys that a stage has, and apart from them, as they change where everything is, those of offloading."""
    out = {}
    for stage in range(4):
        names = [name for name, stages in EXTRA_NAMES.items() if stage in stages]
        out[f"keys@{stage}"] = [name for name in names if "offload_" not in name]
        if stage:
            out[f"offloading@{stage}"] = [name for name in names if "offload_" in name]
    assert {name for names in out.values() for name in names} == set(EXTRA_NAMES)
    return out


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    tmp = tmp_path_factory.mktemp("keys")
    runs = {case: settings(names, int(case[-1])) for case, names in together().items()}
    plain = {f"plain {case}": zero | {"deepspeed": {}} for case, zero in runs.items()}
    return dict(run_ranks(2, "tests.parallel.cases", "with_settings", tmp, path=str(tmp), runs=runs | plain)[0])


@pytest.mark.parametrize("case", together())
def test_every_key_goes_through_steps_a_save_and_a_restore_and_changes_no_figure(
    case: str, tried: dict[str, Any]
) -> None:
    """In bf16, where DeepSpeed chooses among more classes. Buckets and layouts change the order of sums alone.

    Offloading is beside offloading: its Adam is DeepSpeed's own, whose last bits are those of the CPU's vectors, and a
    weight in some thousands then rounds to another bf16 (without AVX-512: 6e-5 of the norm after three updates)."""
    found, plain = tried[case], tried[f"plain {case}"]
    np.testing.assert_allclose(found["run"], plain["run"], rtol=1e-5)
    assert found["resumed"] == found["run"][2:]
