"""Combinations of settings that cannot mean what was meant are refused, with the keys to change."""

from typing import Any

import pytest
from pydantic import ValidationError

from raypt.errors import UserError
from raypt.run.config import RunConfig
from raypt.training.config import TrainConfig
from raypt.training.on_ray.run import check_workers
from raypt.training.optim.schedule import lr_scale

ASYNCHRONOUS = {"strategy": "parameter_server", "parameter_server": {"staleness": 2}}
ACCEPTED: list[dict[str, Any]] = [
    {},
    {"steps": 1},
    {"backend": "gloo"},
    {"backend": "nccl", "use_gpu": True},
    {"steps": 8},
    {"steps": 20, "schedule": {"warmup_steps": 19}},
    {"steps": 20, "schedule": {"warmup_steps": 20, "steps": 40, "kind": "wsd", "decay": "1-sqrt"}},
    {"workers": [2, 2], "checkpoint": {"every_steps": None}},
    {"checkpoint": {"every_steps": 50, "keep_every": 200, "keep_best": 2}},
    {"strategy": "parameter_server", "parameter_server": {"servers": 3}, "optimizer": {"kind": "lion"}},
    {"strategy": "local_sgd"},
    {"strategy": "parameter_server", "parameter_server": {"staleness": 0}, "spike": {"sigma": 6}},
    {"strategy": "parameter_server", "parameter_server": {"staleness": None, "staleness_rate": True}},
    {"reduction": "exact", "zero": {"stage": 3}, "precision": "bf16"},
    {"reduction": "exact", "use_gpu": True, "deterministic": True},
]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"workers": [3, 2]}, "train.workers"),
    ({"workers": 0}, "train.workers"),
    ({"workers": [1, 2], "checkpoint": {"every_steps": None}}, r"train.workers=\[1, 2\].*checkpoint.every_steps=null"),
    ({"steps": 20, "schedule": {"warmup_steps": 20}}, "warmup_steps=20 is not below train.steps=20"),
    ({"schedule": {"warmup_steps": 20, "steps": 20}}, "warmup_steps=20 is not below train.schedule.steps=20"),
    ({"schedule": {"decay": "1-sqrt"}}, "train.schedule.decay=1-sqrt is of kind wsd"),
    ({"checkpoint": {"every_steps": 100, "keep_every": 250}}, "keep_every=250 is not a multiple"),
    ({"checkpoint": {"every_steps": None, "keep_every": 250}}, "keep_every needs"),
    ({"checkpoint": {"keep_best": 1}, "evaluation": {"every_steps": None}}, "keep_best=1"),
    ({"spike": {"window": 180}}, "train.spike.window=180 is not below train.steps=180"),
    ({"spike": {"action": "rewind"}, "checkpoint": {"every_steps": None}}, "train.spike.action=rewind"),
    ({"optimizer": {"betas": [0.9, 1.0]}}, "betas"),
    ({"optimizer": {"kind": "muon"}, "zero": {"offload_optimizer": "cpu"}}, "train.optimizer.kind=muon"),
    ({"varlen_attention": True}, "train.varlen_attention"),
    ({"varlen_attention": True, "use_gpu": True, "precision": "bf16", "deterministic": True}, "train.deterministic"),
    ({"backend": "nccl"}, "train.backend=nccl and train.use_gpu=false"),
    ({"backend": "mpi", "use_gpu": True}, "train.backend=mpi and train.use_gpu=true"),
    ({"profile": {"first_step": 180}}, "train.profile"),
    (
        {"strategy": "parameter_server", "parallel": {"tensor": 2}},
        "_server: each worker holds a whole",
    ),
    ({**ASYNCHRONOUS, "spike": {"sigma": 6}}, "staleness=2: an update is made before.*leave train.spike unset"),
    ({**ASYNCHRONOUS, "workers": [1, 2]}, r"staleness=2: workers come and go.*not \[1, 2\]"),
    ({**ASYNCHRONOUS, "use_gpu": True}, "staleness=2 is of CPU workers"),
    ({**ASYNCHRONOUS, "backend": "mpi"}, "staleness=2 needs Ray"),
    ({"strategy": "parameter_server", "parameter_server": {"overlap_pull": True}}, "overlap_pull: with .*staleness=0"),
    ({"strategy": "local_sgd", "optimizer": {"kind": "muon"}}, "strategy=local_sgd: train.optimizer.kind=muon"),
    ({"strategy": "local_sgd", "checkpoint": {"every_steps": 120}}, "every_steps=120 is not a multiple"),
    ({"strategy": "local_sgd", "local_sgd": {"every_steps": 4, "fragments": 5}}, "fragments=5 is more than"),
    ({"reduction": "exact", "parallel": {"tensor": 2}}, "exact: a model that is cut over workers"),
    ({"reduction": "exact", "parallel": {"context": 2}}, "exact: a model that is cut over workers"),
    ({"reduction": "exact", "strategy": "local_sgd"}, "exact: train.strategy=local_sgd"),
    ({"reduction": "exact", "strategy": "parameter_server"}, "exact: train.strategy=parameter_server"),
    ({"reduction": "exact", "optimizer": {"kind": "muon"}}, "exact is built for train.optimizer.kind=adamw"),
    ({"reduction": "exact", "zero": {"communication_dtype": "bf16"}}, "exact adds up in float32"),
    ({"reduction": "exact", "zero": {"offload_optimizer": "cpu"}}, "exact is not built for what"),
    ({"reduction": "exact", "use_gpu": True}, "unless train.deterministic=true"),
    ({"reduction": "exact", "compile": True}, "train.compile=true is untried"),
    (
        {
            "reduction": "exact",
            "zero": {"stage": 3, "deepspeed": {"zero_optimization": {"memory_efficient_linear": True}}},
        },
        "memory_efficient_linear makes other products",
    ),
]


@pytest.mark.parametrize("said", ACCEPTED)
def test_what_can_be_meant_is_accepted(said: dict[str, Any]) -> None:
    TrainConfig.model_validate(said)


@pytest.mark.parametrize(("said", "message"), REFUSED)
def test_what_cannot_be_meant_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainConfig.model_validate(said)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ValidationError, match=r"(?s)warmup_steps=9 .*train.spike.window=64"):
        TrainConfig.model_validate({"steps": 9, "schedule": {"warmup_steps": 9}, "spike": {}})


def test_the_best_of_nothing_held_out_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"keep_best=1 .*tokens.heldout.fraction=0"):
        RunConfig.model_validate({"train": {"checkpoint": {"keep_best": 1}}, "tokens": {"heldout": {"fraction": 0}}})


def test_a_range_of_workers_in_which_one_number_alone_shares_the_batch_is_refused() -> None:
    train = TrainConfig(workers=(3, 5), global_batch_tokens=8 * 256 * 4, micro_batch_size=8)
    with pytest.raises(UserError, match=r"only 4 shares the global batch of 4 micro-batches evenly.*1, 2, 4 do"):
        check_workers(train, 256)


@pytest.mark.parametrize("steps", [1, 2, 8, 39])
def test_a_warm_up_that_nobody_set_leaves_half_of_a_short_run_to_the_rest(steps: int) -> None:
    schedule = TrainConfig(steps=steps).schedule
    assert max(lr_scale(schedule, u, steps) for u in range(steps)) == 1.0
    assert lr_scale(schedule, steps // 2, steps) == 1.0
