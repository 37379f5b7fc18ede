"""The adapter to lm-evaluation-harness, on a task of our own: no download."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from raypt.model import Llama, ModelConfig
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.tokens.tokenizer.trainer import prepare_tokenizer
from raypt.training.harness import adapter, run_tasks
from raypt.training.judged import WholeModel
from tests.training import tiny_run

with_harness = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None,
    reason="lm-evaluation-harness (extra lm-eval) is not installed: its adapter is untested",
)

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Llama, Tokenizer]:
    """A model that has learned which word follows "the"."""
    root = tmp_path_factory.mktemp("harness")
    tokenizer = prepare_tokenizer(
        tiny_run.write_text(root), TokenizerConfig(vocab_size=300), str(root / "tokenizer"), 0
    )
    config = ModelConfig(hidden_size=32, intermediate_size=64, num_layers=2, init_std=0.1, max_length=64)
    model = Llama(config.for_vocabulary(tokenizer.vocab_size)).initialise(0)
    assert tokenizer.bos_id is not None
    ids = torch.tensor([[tokenizer.bos_id, *tokenizer.encode("the river moves slowly home", eos=True)]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        torch.nn.functional.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, tokenizer


def judged(trained: tuple[Llama, Tokenizer]) -> WholeModel:
    return WholeModel(trained[0], max_length=64, batch_size=2)


def task(tmp_path: Path, **more: object) -> dict[str, object]:
    rows = [{"question": "the", "choices": ["river", "stone"], "answer": 0},
            {"question": "the river moves", "choices": ["under", "slowly"], "answer": 1}]  # fmt: skip
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps(r) for r in rows))
    return {
        "task": "words",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "test_split": "test",
        "doc_to_text": "{{question}}",
        **more,
    }


def run(trained: tuple[Llama, Tokenizer], config: dict[str, object]) -> dict[str, float]:
    return run_tasks(judged(trained), trained[1], [config])["words"]


@with_harness
def test_multiple_choice_is_answered(trained: tuple[Llama, Tokenizer], tmp_path: Path) -> None:
    choices = {"output_type": "multiple_choice", "doc_to_choice": "{{choices}}", "doc_to_target": "answer"}
    result = run(trained, task(tmp_path, **choices, metric_list=[{"metric": "acc"}]))
    assert result["acc,none"] == 1.0


@with_harness
def test_text_is_generated_until_the_stop(trained: tuple[Llama, Tokenizer], tmp_path: Path) -> None:
    generate = {
        "output_type": "generate_until",
        "doc_to_target": "{{choices[answer]}}",
        "generation_kwargs": {"until": [" moves", " home"], "max_gen_toks": 8},
        "metric_list": [{"metric": "exact_match", "ignore_case": True}],
        "filter_list": [{"name": "strip", "filter": [{"function": "remove_whitespace"}]}],
    }
    assert run(trained, task(tmp_path, **generate))["exact_match,strip"] == 1.0


@with_harness
def test_rolling_likelihood_is_finite_and_better_for_learned_text(
    trained: tuple[Llama, Tokenizer], tmp_path: Path
) -> None:
    from lm_eval.api.instance import Instance

    lm = adapter(judged(trained), trained[1])
    texts = ["the river moves slowly home", "home slowly moves river the"]
    requests = [Instance("loglikelihood_rolling", {}, (text,), i) for i, text in enumerate(texts)]
    learned, shuffled = lm.loglikelihood_rolling(requests)
    assert learned > -1.0 > shuffled
