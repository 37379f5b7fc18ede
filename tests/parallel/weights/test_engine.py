"""Weights alone on a mesh say what the whole model says, and are all that a rank holds."""

from typing import Any

import pytest
import torch

from raypt.model.llama import parameter_shapes
from tests.parallel.ranks import run_ranks
from tests.parallel.weights.cases import CASES, whole

torch.set_num_threads(1)
FP32 = [name for name, case in CASES.items() if case[3] == "fp32"]


@pytest.fixture(scope="module")
def by_rank(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run_ranks(2, "tests.parallel.weights.cases", "on_ranks", tmp_path_factory.mktemp("weights"))


@pytest.mark.parametrize("name", FP32)
def test_losses_and_logits_are_those_of_the_whole_model_on_every_rank(name: str, by_rank: list[dict[str, Any]]) -> None:
    expected = whole(name)
    for rank in by_rank:
        found = rank[name]
        assert found["losses"] == pytest.approx(expected["losses"], rel=1e-6)  # float32 sums in another order
        for logits, wanted in zip(found["logits"], expected["logits"], strict=True):
            torch.testing.assert_close(torch.tensor(logits), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FP32)
def test_what_follows_a_text_is_found_token_by_token(name: str, by_rank: list[dict[str, Any]]) -> None:
    wanted = torch.stack(whole(name)["decoded"])
    for rank in by_rank:
        torch.testing.assert_close(torch.tensor(rank[name]["decoded"]), wanted, rtol=1e-5, atol=1e-5)


def test_only_where_positions_are_cut_there_is_no_cache(by_rank: list[dict[str, Any]]) -> None:
    assert {name for name in CASES if not by_rank[0][name]["cached"]} == {"cp2"}


@pytest.mark.parametrize("name", CASES)
def test_a_rank_holds_its_cut_of_the_weights_in_the_type_computed_with(
    name: str, by_rank: list[dict[str, Any]]
) -> None:
    model, parallel, stage, precision = CASES[name]
    shapes = parameter_shapes(model).values()
    numel = sum(shape.numel() for shape in shapes)
    held = [rank[name]["nbytes"] / (2 if precision == "bf16" else 4) for rank in by_rank]
    if stage == 3:
        assert sum(held) == numel
        layers = 3 + model.num_layers  # the cut of each is rounded up
        assert abs(held[0] - held[1]) <= layers
    elif parallel.tensor == 2:
        # Norms, and the only key/value head, are held by both; widths of 49 and 101 are not halved evenly.
        both = sum(s.numel() for s in shapes if len(s) == 1)
        both += 2 * model.num_layers * model.hidden_size * model.head_width
        assert sum(held) == numel + both
        assert max(held) <= 1.03 * min(held)
    elif parallel.pipeline == 2:
        assert sum(held) == numel
    else:
        assert held == [numel] * 2


def test_bf16_weights_differ_from_the_whole_models_by_their_rounding(by_rank: list[dict[str, Any]]) -> None:
    for name in ("zero3 in bf16", "tp2 in bf16"):
        found = torch.tensor(by_rank[0][name]["decoded"])
        wanted = torch.stack(whole(name)["decoded"])
        assert found.shape == (3, CASES[name][0].vocab)
        # Weights, and each result, are rounded to 8 bits.
        assert 1e-4 < float((found - wanted).norm() / wanted.norm()) < 5e-2
