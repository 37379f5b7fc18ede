"""Judging a finished model."""

import math
from pathlib import Path

import pytest
import torch

from raypt import storage
from raypt.corpus.config import CorpusConfig
from raypt.errors import UserError
from raypt.model import Llama, ModelConfig, export_hf
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.tokens.tokenizer.trainer import prepare_tokenizer
from raypt.training.config import EvaluateConfig
from raypt.training.evaluate import evaluate_model, perplexity
from tests.training import tiny_run

torch.set_num_threads(1)
TEXTS = ["the river moves slowly", "a stone", "light and dark " * 30]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evaluate")
    tokenizer = prepare_tokenizer(
        tiny_run.write_text(root), TokenizerConfig(vocab_size=300), str(root / "tokenizer"), 0
    )
    config = ModelConfig(hidden_size=32, intermediate_size=64, num_layers=2, init_std=0.2, max_length=48)
    model = Llama(config.for_vocabulary(tokenizer.vocab_size)).initialise(0)
    tokenizer.save(str(root / "export"))
    export_hf(model.config, dict(model.named_parameters()).__getitem__, str(root / "export"))
    (root / "texts.txt").write_text("\n".join(TEXTS))
    return root


def loaded(root: Path) -> tuple[Llama, Tokenizer]:
    from raypt.model import load_hf

    return load_hf(str(root / "export")), Tokenizer.load(str(root / "export"))


def test_perplexity_is_that_of_the_whole_text_where_it_fits(exported: Path) -> None:
    model, tokenizer = loaded(exported)
    assert tokenizer.bos_id is not None
    ids = [tokenizer.bos_id, *tokenizer.encode(TEXTS[0])]
    expected = torch.nn.functional.cross_entropy(model(torch.tensor([ids[:-1]]))[0], torch.tensor(ids[1:]))
    tally = perplexity(model, tokenizer, TEXTS[:1], max_length=48, stride=None, batch_size=2)
    assert tally.tokens == len(ids) - 1
    assert tally.nats / tally.tokens == pytest.approx(expected.item(), rel=1e-5)


def test_the_batch_size_does_not_matter(exported: Path) -> None:
    model, tokenizer = loaded(exported)
    nats = [perplexity(model, tokenizer, TEXTS, max_length=48, stride=8, batch_size=n).nats for n in (1, 3, 100)]
    assert nats == pytest.approx([nats[0]] * 3, rel=1e-5)


def test_files_are_evaluated_by_source_with_bits_per_byte(exported: Path) -> None:
    config = EvaluateConfig.model_validate(
        {"sources": [{"name": "lines", "paths": str(exported / "texts.txt"), "format": "lines"}]}
    )
    out = evaluate_model(config, CorpusConfig(), str(exported))
    assert storage.read_json(str(exported / "evaluation.json")) == out
    figures = out["perplexity"]["lines"]
    assert figures["documents"] == 3
    assert figures["perplexity"] == pytest.approx(math.exp(figures["loss"]))
    bits = figures["loss"] * figures["tokens"] / math.log(2) / figures["bytes"]
    assert figures["bits_per_byte"] == pytest.approx(bits)


def test_nothing_to_evaluate_on_is_a_mistake(exported: Path) -> None:
    with pytest.raises(UserError, match=r"evaluate\.sources"):
        evaluate_model(EvaluateConfig(), CorpusConfig(), str(exported))


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    config = EvaluateConfig.model_validate({"sources": [{"paths": "x.txt"}]})
    with pytest.raises(UserError, match=r"export/config\.json"):
        evaluate_model(config, CorpusConfig(), str(tmp_path))
