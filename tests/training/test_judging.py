"""A model judged by the ranks of a mesh is found to be what one process finds it to be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raypt import storage
from raypt.errors import UserError
from raypt.model import Llama, ModelConfig, export_hf, load_hf
from raypt.model.llama import parameter_shapes
from raypt.model.weights import in_blocks
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.tokens.tokenizer.trainer import prepare_tokenizer
from raypt.training.judged import WholeModel
from raypt.training.starting_point import find_model
from tests.parallel.ranks import run_ranks
from tests.training import judging_cases, tiny_run
from tests.training.judging_cases import MESHES

torch.set_num_threads(1)
ENGLISH = ["the river moves slowly", "a stone", "light and dark " * 12, "home under the wind"]
CHINESE = ["河水慢慢地流过石头。", "光", "风从山上吹下来，" * 8]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose vocabulary two ranks do not share evenly, exported, and texts."""
    root = tmp_path_factory.mktemp("judging")
    tokenizer = prepare_tokenizer(
        tiny_run.write_text(root), TokenizerConfig(vocab_size=301), str(root / "tokenizer"), 0
    )
    model = ModelConfig(
        hidden_size=32, intermediate_size=49, num_layers=4, num_heads=4, num_kv_heads=2, init_std=0.2,
        max_length=tiny_run.LENGTH, tie_embeddings=False, vocab_multiple=1,
    ).for_vocabulary(tokenizer.vocab_size)  # fmt: skip
    parameters = dict(Llama(model).initialise(0).named_parameters())
    tokenizer.save(str(root / "export"))
    export_hf(model, lambda name: in_blocks(parameters[name]), str(root / "export"))
    (root / "english.txt").write_text("\n".join(ENGLISH))
    (root / "chinese.txt").write_text("\n".join(CHINESE))
    return root


@pytest.fixture(scope="module")
def alone(root: Path) -> dict[str, Any]:
    uri = str(root / "export")
    model = WholeModel(load_hf(uri), max_length=tiny_run.LENGTH, batch_size=3)
    return judging_cases.everything(model, Tokenizer.load(uri), str(root), uri, str(root / "alone.json"))


@pytest.fixture(scope="module")
def by_rank(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    tmp = tmp_path_factory.mktemp("ranks")
    arguments = {"root": str(root), "uri": str(root / "export"), "out": str(tmp)}
    return run_ranks(4, "tests.training.judging_cases", "on_ranks", tmp, **arguments)


@pytest.mark.parametrize("mesh", MESHES)
def test_losses_and_bits_per_byte_of_every_source_are_those_of_one_process(
    mesh: str, by_rank: list[dict[str, Any]], alone: dict[str, Any]
) -> None:
    found = by_rank[0][mesh]["perplexity"]
    assert found.keys() == {"english", "chinese"}
    for source, figures in found.items():
        assert figures == pytest.approx(alone["perplexity"][source], rel=1e-6)  # float32 sums in another order


@pytest.mark.parametrize("mesh", MESHES)
def test_continuations_are_scored_and_texts_continued_as_by_one_process(
    mesh: str, by_rank: list[dict[str, Any]], alone: dict[str, Any]
) -> None:
    found = by_rank[0][mesh]
    np.testing.assert_allclose(*([s[0] for s in x["scores"]] for x in (found, alone)), rtol=1e-6, atol=1e-6)
    greedy = [bool(s[1]) for s in found["scores"]]
    assert greedy == [s[1] for s in alone["scores"]]
    assert {True, False} == set(greedy)
    assert (found["greedy"], found["drawn"]) == (alone["greedy"], alone["drawn"])


@pytest.mark.parametrize("mesh", MESHES)
def test_each_rank_reads_no_more_than_its_cut(mesh: str, by_rank: list[dict[str, Any]], root: Path) -> None:
    shapes = parameter_shapes(find_model(str(root / "export"), "").model)
    replicated = sum(shape.numel() for shape in shapes.values() if len(shape) == 1)
    cut = sum(shape.numel() for shape in shapes.values()) - replicated
    # Replicas, and the ranks of a context, hold the same and share the reading.
    read = [rank[mesh]["read"] for rank in by_rank]
    assert cut <= sum(read) <= cut + 4 * replicated
    assert max(read) <= 1.1 * cut / 4 + replicated  # widths of 49 and 301 are not halved evenly


def test_a_mistake_of_rank_0_is_raised_on_every_rank_and_none_is_left_waiting(by_rank: list[dict[str, Any]]) -> None:
    assert [rank["refused"] for rank in by_rank] == ["there is nothing in it"] * 4


def test_what_is_no_model_is_refused_by_the_key_it_was_named_with(tmp_path: Path) -> None:
    storage.write_json(str(tmp_path / "other.json"), {})
    with pytest.raises(UserError, match=r"evaluate\.model: .* holds no model"):
        find_model(str(tmp_path), "evaluate.model")
