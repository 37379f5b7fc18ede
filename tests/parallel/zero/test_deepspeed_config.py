"""What DeepSpeed is told."""

import re
from typing import Any

import pytest

from raypt.errors import UserError
from raypt.parallel.config import ZeroConfig
from raypt.parallel.zero.deepspeed_config import check_deepspeed, deepspeed_config


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
        ({"zero_optimization": {"bogus": 1}}, "zero_optimization: DeepSpeed refuses bogus"),
        ({"gradient_clipping": 5}, "use train.optimizer.clip_norm instead"),
        ({"gradient_cliping": 5}, "did you mean train.optimizer.clip_norm?"),
        ({"optimizer": {"type": "Adam"}}, "use train.optimizer instead"),
        ({"scheduler": {"type": "WarmupLR"}}, "use train.schedule instead"),
        ({"fp16": {"enabled": True}}, "use train.precision instead"),
        ({"bf16": {"enabled": True}}, "train.precision is fp32"),
    ],
)
def test_an_extra_deepspeed_key_that_would_be_ignored_or_undo_what_raypt_does_is_refused(
    extra: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        check_deepspeed(ZeroConfig(deepspeed=extra), "fp32")


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
    zero = ZeroConfig(stage=2, overlap_comm=True, reduce_bucket_elements=1234)
    config = deepspeed_config(zero, precision="fp32", clip_norm=None, micro_batch_size=1, accumulation=1, world=1)
    assert config["zero_optimization"]["overlap_comm"] is True
    assert config["zero_optimization"]["reduce_bucket_size"] == 1234


def test_without_a_clip_norm_deepspeed_does_not_clip() -> None:
    """Its own default is a norm of 1."""
    config = deepspeed_config(
        ZeroConfig(), precision="fp32", clip_norm=None, micro_batch_size=1, accumulation=1, world=1
    )
    assert config["gradient_clipping"] == 0
