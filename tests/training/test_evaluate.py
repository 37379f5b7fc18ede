"""Judging a finished model."""

import math
from pathlib import Path

import pytest
import torch

from raypt import storage
from raypt.corpus.config import CorpusConfig
from raypt.errors import UserError
from raypt.model import Llama, ModelConfig, export_hf
from raypt.model.weights import in_blocks
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.tokens.tokenizer.trainer import prepare_tokenizer
from raypt.training import evaluate
from raypt.training.bos import save_as_used
from raypt.training.config import EvaluateConfig
from raypt.training.evaluate import TextScore, evaluate_model, perplexity
from raypt.training.judged import WholeModel
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
    parameters = dict(model.named_parameters())
    export_hf(model.config, lambda name: in_blocks(parameters[name]), str(root / "export"))
    (root / "texts.txt").write_text("\n".join(TEXTS))
    return root


def loaded(root: Path) -> tuple[Llama, Tokenizer]:
    from raypt.model import load_hf

    return load_hf(str(root / "export")), Tokenizer.load(str(root / "export"))


@pytest.mark.parametrize("bos", [False, True])
def test_perplexity_is_that_of_the_whole_text_where_it_fits(bos: bool, exported: Path) -> None:
    """From BOS on if the tokenizer adds it; else the first token is only what the second comes after."""
    model, tokenizer = loaded(exported)
    if bos:
        save_as_used(tokenizer, str(exported / "with_bos"), add_bos=True, max_length=48)
        tokenizer = Tokenizer.load(str(exported / "with_bos"))
    ids = tokenizer.encode(TEXTS[0], bos=bos)
    expected = torch.nn.functional.cross_entropy(model(torch.tensor([ids[:-1]]))[0], torch.tensor(ids[1:]))
    tally = perplexity(WholeModel(model, max_length=48, batch_size=2), tokenizer, TEXTS[:1], stride=None)
    assert tally.tokens == len(ids) - 1
    assert tally.bytes == len(TEXTS[0]) - (0 if bos else len(tokenizer.decode(ids[:1])))
    assert tally.nats / tally.tokens == pytest.approx(expected.item(), rel=1e-5)


def test_the_batch_size_does_not_matter(exported: Path) -> None:
    model, tokenizer = loaded(exported)
    nats = [perplexity(WholeModel(model, 48, n), tokenizer, TEXTS, stride=8).nats for n in (1, 3, 100)]
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


@pytest.mark.parametrize("content", ["\n\n", "x\n"])
def test_a_source_without_a_token_to_score_is_refused_by_name(content: str, exported: Path) -> None:
    (exported / "nothing.txt").write_text(content)
    sources = [
        {"name": "lines", "paths": str(exported / "texts.txt"), "format": "lines"},
        {"name": "nothing", "paths": str(exported / "nothing.txt"), "format": "lines"},
    ]
    config = EvaluateConfig.model_validate({"sources": sources, "out": str(exported / "refused.json")})
    with pytest.raises(UserError, match=r"evaluate\.sources: no token to score in nothing"):
        evaluate_model(config, CorpusConfig(), str(exported))
    assert not (exported / "refused.json").exists()


def test_a_model_is_evaluated_in_the_type_it_is_stored_in_or_the_one_asked_for(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(
        evaluate,
        "perplexity",
        lambda judged, *args, **_: seen.append(judged.model.lm_head.weight.dtype) or TextScore(1, 1, 1, 1),
    )
    for precision in (None, "bf16"):
        sources = [{"name": "lines", "paths": str(exported / "texts.txt"), "format": "lines"}]
        config = EvaluateConfig.model_validate({"sources": sources, "precision": precision})
        evaluate_model(config, CorpusConfig(), str(exported))
    assert seen == [torch.float32, torch.bfloat16]
