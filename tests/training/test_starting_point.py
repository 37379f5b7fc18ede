"""What `train.init` names is found and made to fit, or refused before any work."""

from pathlib import Path

import pytest
import tokenizers
import torch

from raypt import storage
from raypt.errors import UserError
from raypt.model import Llama, ModelConfig
from raypt.run.config import RunConfig
from raypt.run.starting import as_planned, with_start
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.tokens.tokenizer.trainer import prepare_tokenizer
from raypt.training.config import InitConfig, TrainConfig
from raypt.training.export import export_checkpoint
from raypt.training.starting_point import StartingPoint, check_fit, find, fitted
from tests.training import tiny_run
from tests.training.test_export import checkpoint

torch.set_num_threads(1)
MODEL = ModelConfig(hidden_size=32, intermediate_size=64, num_layers=2, num_heads=2, num_kv_heads=1, max_length=48)
SAME = ModelConfig()
"""A configuration that says nothing of the model."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a tokenizer of 300 ids, a checkpoint and an export."""
    root = tmp_path_factory.mktemp("run")
    tokenizer = prepare_tokenizer(
        tiny_run.write_text(root), TokenizerConfig(vocab_size=300), str(root / "tokenizer"), 0
    )
    model = Llama(MODEL.for_vocabulary(tokenizer.vocab_size)).initialise(0)
    info = checkpoint(root / "checkpoints", model)
    export_checkpoint(info, str(root / "tokenizer"), str(root / "export"))
    return root


def train(uri: Path | str, **more: object) -> TrainConfig:
    return TrainConfig.model_validate({"init": {"from": str(uri), **more}})


def start(uri: Path | str, **more: object) -> tuple[StartingPoint, TrainConfig]:
    config = train(uri, **more)
    assert isinstance(config.init, InitConfig)
    return find(config.init), config


def larger(root: Path, out: Path, *, tokens: int) -> Tokenizer:
    """The run's tokenizer with more tokens behind its own."""
    Tokenizer.load(str(root / "tokenizer")).save(str(out))
    backend = tokenizers.Tokenizer.from_file(str(out / "tokenizer.json"))
    backend.add_special_tokens([f"<|new{i}|>" for i in range(tokens)])
    backend.save(str(out / "tokenizer.json"))
    return Tokenizer.load(str(out))


def test_a_run_its_checkpoint_and_its_export_hold_the_same_model(root: Path) -> None:
    newest = next((root / "checkpoints").glob("step-*"))
    found = {name: start(uri)[0] for name, uri in {"run": root, "one": newest, "hub": root / "export"}.items()}
    assert found["run"].uri == found["one"].uri == str(newest)
    assert found["run"].tokenizer_uri == found["one"].tokenizer_uri == str(root / "tokenizer")
    assert found["hub"].checkpoint is None
    shapes = {name: point.model.model_copy(update={"head_dim": 16}) for name, point in found.items()}
    # What an export does not keep: how first weights are drawn, and how its vocabulary was padded.
    assert shapes["hub"] == shapes["run"] == shapes["one"]


def test_where_there_is_no_model_it_is_said_what_one_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.init\.from: .* holds no model: neither config\.json"):
        start(tmp_path)


def test_a_shape_that_the_weights_do_not_have_is_refused_with_both(root: Path) -> None:
    found, config = start(root)
    check_fit(found, config, MODEL.model_copy(update={"max_length": 99, "rope_theta": 5e5}))
    with pytest.raises(UserError, match=r"have hidden_size=32, .* says model\.hidden_size=64; leave"):
        check_fit(found, config, MODEL.model_copy(update={"hidden_size": 64}))


def test_length_and_rotary_positions_are_what_the_configuration_says(root: Path) -> None:
    found, config = start(root)
    tokenizer = Tokenizer.load(str(root / "tokenizer"))
    assert fitted(found, config, SAME, tokenizer)[0] == found.model
    model, weights = fitted(found, config, ModelConfig(max_length=99, rope_theta=5e5), tokenizer)
    assert (model.max_length, model.rope_theta, model.vocab) == (99, 5e5, found.model.vocab)
    assert weights.known_tokens is None


@pytest.mark.parametrize(("tokens", "rows"), [(3, 320), (40, 384)])
def test_the_vocabulary_grows_where_more_tokens_are_brought(tokens: int, rows: int, root: Path, tmp_path: Path) -> None:
    """320 rows hold 300 tokens in whole tiles of 64: the first new tokens have rows already, never trained."""
    tokenizer = larger(root, tmp_path, tokens=tokens)
    found, config = start(root, tokenizer=str(tmp_path))
    model, weights = fitted(found, config, SAME, tokenizer)
    assert (model.vocab, weights.known_tokens) == (rows, 300)


def test_a_tokenizer_that_gives_known_tokens_other_ids_is_refused(root: Path, tmp_path: Path) -> None:
    settings = TokenizerConfig(vocab_size=310, bos_token="<s>")
    other = prepare_tokenizer(tiny_run.write_text(tmp_path), settings, str(tmp_path / "other"), 0)
    found, config = start(root, tokenizer=str(tmp_path / "other"))
    with pytest.raises(UserError, match=r"train\.init\.tokenizer: id \d+ is"):
        fitted(found, config, SAME, other)


def test_the_state_of_another_optimizer_or_of_none_is_refused(root: Path) -> None:
    found, config = start(root / "export", optimizer=True)
    with pytest.raises(UserError, match=r"train\.init\.optimizer: .* holds weights alone"):
        check_fit(found, config, SAME)


def test_the_tokenizer_of_the_run_is_that_of_the_model(root: Path) -> None:
    said = {"train": {"init": {"from": str(root / "export")}}, "tokens": {"packing": {"sequence_length": 32}}}
    config, found = with_start(RunConfig.model_validate(said))
    assert found is not None
    assert config.tokens.tokenizer.path == str(root / "export")
    said["tokens"] = {"packing": {"sequence_length": 32}, "tokenizer": {"path": "elsewhere"}}
    with pytest.raises(UserError, match=r"tokens\.tokenizer\.path=elsewhere: with train\.init"):
        with_start(RunConfig.model_validate(said))


def test_samples_longer_than_the_models_context_are_refused_with_its_length(root: Path) -> None:
    said = {"train": {"init": {"from": str(root)}}, "tokens": {"packing": {"sequence_length": 64}}}
    with pytest.raises(UserError, match=r"sequence_length=64 is more than the 48 tokens of context"):
        with_start(RunConfig.model_validate(said))
    with_start(RunConfig.model_validate({**said, "model": {"max_length": 64}}))


def test_a_checkpoint_that_is_gone_is_an_error_of_the_storage(root: Path, tmp_path: Path) -> None:
    found, config = start(root)
    _, weights = fitted(found, config, SAME, Tokenizer.load(str(root / "tokenizer")))
    storage.move(found.uri, str(tmp_path / "away"))
    try:
        with pytest.raises(FileNotFoundError, match="the checkpoint is gone"):
            weights.open()
    finally:
        storage.move(str(tmp_path / "away"), found.uri)


def test_documents_begin_with_bos_where_they_did_for_the_model(root: Path, tmp_path: Path) -> None:
    """Of a run's own tokenizer the files do not say it."""
    model = Llama(MODEL.for_vocabulary(300)).initialise(0)
    checkpoint(tmp_path / "checkpoints", model, add_bos=True)
    Tokenizer.load(str(root / "tokenizer")).save(str(tmp_path / "tokenizer"))
    said = {"train": {"init": {"from": str(tmp_path)}}, "tokens": {"packing": {"sequence_length": 32}}}
    assert with_start(RunConfig.model_validate(said))[0].tokens.packing.add_bos
    said["tokens"] = {"packing": {"sequence_length": 32, "add_bos": False}}
    assert not with_start(RunConfig.model_validate(said))[0].tokens.packing.add_bos


def test_a_plan_is_of_the_shape_that_the_weights_have(root: Path) -> None:
    said = {"train": {"init": {"from": str(root)}}, "tokens": {"packing": {"sequence_length": 32}}}
    config, found = with_start(RunConfig.model_validate(said))
    assert found is not None
    assert as_planned(config, found).model == found.model
