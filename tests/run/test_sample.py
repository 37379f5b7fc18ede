"""The text that a run ends with, where the workers that trained have left none: new ones write it, and no part of the
model is ever on the driver. What those that trained write is tested in tests/training/test_afterwards.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from raypt import storage
from raypt.config_io import validate
from raypt.model import Llama, ModelConfig
from raypt.run.config import RunConfig
from raypt.run.sample import NAME, PROMPTS, Sampling, ensure_sample, sample_on_workers, workers_for_sample, write_sample
from raypt.run_dir import RunDir
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.tokens.tokenizer.trainer import prepare_tokenizer
from raypt.training.checkpoint.manifest import CheckpointInfo
from raypt.training.config import TrainConfig
from raypt.training.judged import WholeModel
from tests.training import tiny_run
from tests.training.one_rank import checkpoint

torch.set_num_threads(1)
LENGTH = 64
ORIGIN = {"precision": "fp32"}
TRAINED: dict[str, dict[str, Any]] = {
    "dp2": {},
    "tp2": {"parallel": {"tensor": 2}},
    "pp2": {"parallel": {"pipeline": 2, "schedule": "interleaved_1f1b", "virtual_stages": 2}},
    "cp2": {"parallel": {"context": 2}},
    "zero3": {"zero": {"stage": 3}},
    "parameter server": {"strategy": "parameter_server"},
    "local sgd": {"strategy": "local_sgd"},
}
"""What two workers have trained with, beside the defaults."""


def train_of(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "workers": 2,
        "cpus_per_worker": 0.5,
        "global_batch_tokens": 16 * LENGTH,
        "micro_batch_size": 2,
        "tensorboard": False,
    } | settings


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sample")


@pytest.fixture(scope="module")
def tokenizer(root: Path) -> Tokenizer:
    return prepare_tokenizer(tiny_run.write_text(root), TokenizerConfig(vocab_size=301), str(root / "tokenizer"), 0)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Llama:
    """Sure enough of what it says that sums in another order change no token, and of a vocabulary that two workers do
    not share evenly.
    """
    config = ModelConfig(
        hidden_size=32, intermediate_size=49, num_layers=4, num_heads=4, num_kv_heads=2, init_std=0.2,
        max_length=LENGTH, tie_embeddings=False, vocab_multiple=1,
    )  # fmt: skip
    return Llama(config.for_vocabulary(tokenizer.vocab_size)).initialise(0)


@pytest.fixture(scope="module")
def saved(root: Path, model: Llama) -> CheckpointInfo:
    return checkpoint(root / "checkpoints", model)


@pytest.fixture(scope="module")
def alone(root: Path, model: Llama, tokenizer: Tokenizer) -> list[dict[str, str]]:
    """What one process writes that holds all of the model."""
    uri = str(root / "alone.json")
    write_sample(WholeModel(model, LENGTH, 1), tokenizer, uri=uri, prompts=PROMPTS, seed=0, origin=ORIGIN)
    sample: list[dict[str, str]] = storage.read_json(uri)
    return sample


@pytest.fixture(scope="module")
def cluster(alone: object) -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.fixture
def held() -> Iterator[list[str]]:
    """The parameters that are made in this process meanwhile, with memory."""
    found: list[str] = []

    def note(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:
            found.append(f"{type(module).__name__}.{name}")

    hook = register_module_parameter_registration_hook(note)
    yield found
    hook.remove()


def sampling_for(name: str, root: Path) -> Sampling:
    settings = {"run": {"dir": str(root)}, "tokens": {"packing": {"sequence_length": LENGTH}}}
    return Sampling.of(validate(RunConfig, settings | {"train": train_of(TRAINED[name])}), RunDir(str(root)))


@pytest.mark.parametrize("name", ["dp2", "tp2"])
def test_one_worker_or_several_write_what_one_process_does_and_the_driver_holds_no_model(
    name: str,
    cluster: None,
    root: Path,
    saved: CheckpointInfo,
    alone: list[dict[str, str]],
    held: list[str],
) -> None:
    sampling = sampling_for(name, root)
    storage.write_json(sampling.uri, ["of an earlier start"])
    sample_on_workers(sampling, str(root), saved)
    assert [without(entry, "checkpoint") for entry in storage.read_json(sampling.uri)] == alone
    assert held == []
    assert sampling.made(saved)


def without(entry: dict[str, str], key: str) -> dict[str, str]:
    return {k: v for k, v in entry.items() if k != key}


def test_a_text_of_the_last_checkpoint_is_kept(saved: CheckpointInfo, tmp_path: Path) -> None:
    """No workers are started for it: Ray is not running, and what would be tried begins with removing the file."""
    sampling = sampling_for("dp2", tmp_path)
    written = [{"prompt": "The ", "text": "end", "checkpoint": saved.name, "precision": "fp32"}]
    storage.write_json(sampling.uri, written)
    ensure_sample(sampling, RunDir(str(tmp_path)), saved)
    assert storage.read_json(sampling.uri) == written


@pytest.mark.parametrize(
    "origin", [{}, {"checkpoint": "step-00000009-1", "precision": "fp32"}, {"precision": "bf16"}, None]
)
def test_a_text_of_another_model_is_none_of_the_last_checkpoint(
    origin: dict[str, str] | None, saved: CheckpointInfo, tmp_path: Path
) -> None:
    sampling = sampling_for("dp2", tmp_path)
    if origin is not None:
        entry = {"prompt": "The ", "text": "end"} | ({"checkpoint": saved.name} | origin if origin else {})
        storage.write_json(sampling.uri, [entry])
    assert not sampling.made(saved)


def test_a_text_that_cannot_be_generated_fails_nothing_and_leaves_none_of_an_earlier_model(
    saved: CheckpointInfo, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sampling = sampling_for("dp2", tmp_path)
    storage.write_json(sampling.uri, [{"prompt": "The ", "text": "end", "checkpoint": "step-00000009-1"}])
    unknown = replace(saved, meta={**saved.meta, "model": {"hidden_size": -1}})
    with caplog.at_level("WARNING", "raypt"):
        ensure_sample(sampling, RunDir(str(tmp_path)), unknown)
    assert "no text was generated with the model" in caplog.text
    assert "The same command (raypt pretrain) tries it again" in caplog.text
    assert not (tmp_path / NAME).exists()


def test_a_model_in_this_process_would_have_been_seen(held: list[str], model: Llama) -> None:
    nn.Linear(2, 2)
    with torch.device("meta"):
        Llama(model.config)
    assert held == ["Linear.weight", "Linear.bias"]


def test_the_texts_of_different_beginnings_differ(alone: list[dict[str, str]]) -> None:
    assert [entry["prompt"] for entry in alone] == [prompt for prompt in PROMPTS if prompt]
    assert len({entry["text"] for entry in alone}) == len(alone)
    assert all(entry["text"] for entry in alone)


@pytest.mark.parametrize(
    ("name", "workers"),
    [
        ("dp2", 1), ("tp2", 2), ("pp2", 2), ("cp2", 1), ("zero3", 2), ("parameter server", 1), ("local sgd", 1),
    ],
)  # fmt: skip
def test_as_many_workers_as_hold_a_model_between_them(name: str, workers: int) -> None:
    train = validate(TrainConfig, train_of(TRAINED[name]))
    sampled, count = workers_for_sample(train, LENGTH)
    assert count == workers
    assert sampled.parallel.context == 1
    assert (sampled.parallel.tensor, sampled.parallel.pipeline) == (train.parallel.tensor, train.parallel.pipeline)


def test_a_context_of_zero_3_is_sampled_on_all_its_workers() -> None:
    settings = train_of({"workers": 4, "parallel": {"context": 2, "tensor": 2}, "zero": {"stage": 3}})
    sampled, count = workers_for_sample(validate(TrainConfig, settings), LENGTH)
    assert (count, sampled.parallel.replica) == (4, 2)


@pytest.mark.parametrize("add_bos", [False, True])
def test_a_model_that_knows_no_beginning_is_not_asked_for_one(
    add_bos: bool, model: Llama, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    asked: list[list[int]] = []
    whole = WholeModel(model, LENGTH, 1)

    class Noting:
        """The model, and what it was asked to continue."""

        max_length, log_probability, score = whole.max_length, whole.log_probability, whole.score

        def generate(self, prompt: list[int], **options: Any) -> list[int]:
            asked.append(prompt)
            generate: Callable[..., list[int]] = whole.generate
            return generate(prompt, **options)

    uri = str(tmp_path / NAME)
    write_sample(Noting(), tokenizer.with_added(bos=add_bos), uri=uri, prompts=("the ", ""), seed=0, origin={})
    begin = [tokenizer.bos_id] if add_bos else []
    assert asked == [[*begin, *tokenizer.encode("the ")], *([begin] if add_bos else [])]
    assert [entry["prompt"] for entry in storage.read_json(uri)] == (["the ", ""] if add_bos else ["the "])
