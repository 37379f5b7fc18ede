"""Muon in one process; over ZeRO's cuts it is tested in tests/parallel."""

import pytest
import torch
from torch import Tensor

from raypt.model import Llama, ModelConfig, Targets
from raypt.training.config import OptimizerConfig, TrainConfig
from raypt.training.optim.muon import orthogonalise, scaled_update
from raypt.training.optim.optimizer import build_optimizer

torch.set_num_threads(1)
SHAPES = [(64, 64), (32, 96), (96, 32)]

# What five iterations of the published coefficients make of any singular value in [0.01, 1] (the Frobenius norm is 1
# before them): the extremes of the scalar map, rounded outwards. Smaller ones rise by 485 at most.
LOW, HIGH = 0.68, 1.14


def matrix(shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """A matrix with singular values from 1 down to 0.1 (above 0.01 of the norm), and its singular vectors."""
    random = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, _, v = torch.linalg.svd(random, full_matrices=False)
    s = torch.linspace(1.0, 0.1, min(shape), dtype=torch.float64)
    assert (s / s.norm()).min() > 0.01
    return (u * s @ v).float(), u.float(), v.float()


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    values = torch.linalg.svdvals(orthogonalise(7.0 * matrix(shape)[0]))
    assert values.min() > LOW
    assert values.max() < HIGH


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_vectors_stay(shape: tuple[int, int]) -> None:
    m, u, v = matrix(shape)
    rotated = u.T @ orthogonalise(m) @ v.T
    torch.testing.assert_close(rotated, rotated.diagonal().diag(), atol=1e-4, rtol=0)


def test_a_zero_matrix_stays_zero() -> None:
    assert not orthogonalise(torch.zeros(4, 8)).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_an_update_is_as_large_as_one_of_adamw(shape: tuple[int, int]) -> None:
    """Root mean square 0.2 times that of the singular values (Moonlight, section 2.2)."""
    rms = scaled_update(matrix(shape)[0]).square().mean().sqrt()
    assert 0.2 * LOW < rms < 0.2 * HIGH


@pytest.mark.parametrize("tied", [True, False])
def test_only_the_matrices_of_the_blocks_are_orthogonalised(tied: bool) -> None:
    model = Llama(ModelConfig(vocab_size=64, qk_norm=True, tie_embeddings=tied))
    names = {id(p): name for name, p in model.named_parameters()}
    groups = build_optimizer(model, OptimizerConfig(kind="muon", weight_decay=0.3)).param_groups
    inner, outer, vectors = ([names[id(p)] for p in group["params"]] for group in groups)
    assert [group["muon"] for group in groups] == [True, False, False]
    assert [group["weight_decay"] for group in groups] == [0.3, 0.3, 0.0]
    assert all(".self_attn." in n or ".mlp." in n for n in inner)
    assert outer == ["model.embed_tokens.weight"] + ([] if tied else ["lm_head.weight"])
    assert all("norm" in n for n in vectors)
    assert sorted([*inner, *outer, *vectors]) == sorted(names.values())


def test_it_learns_a_sum_better_than_adamw_at_the_same_rate() -> None:
    """Each token is the sum of the two before it. Over three seeds Muon was 0.24 to 0.59 nats ahead after 160 steps; at
    a third of this rate, where the embeddings that both leave to AdamW decide, it is behind over so few steps.
    """

    def batch(seed: int) -> Tensor:
        rows = torch.randint(0, 96, (16, 33), generator=torch.Generator().manual_seed(seed))
        for i in range(2, 33):
            rows[:, i] = (rows[:, i - 1] + rows[:, i - 2]) % 96
        return rows

    def final_loss(kind: str) -> float:
        shape = {"hidden_size": 48, "intermediate_size": 96, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2}
        model = Llama(ModelConfig.model_validate({"vocab_size": 96, **shape})).initialise(0)
        optimizer = build_optimizer(model, OptimizerConfig.model_validate({"kind": kind, "lr": 1e-2}))
        losses = []
        for step in range(160):
            x = batch(step)
            loss, _ = model(x[:, :-1], targets=Targets(x[:, 1:], torch.ones(16, 32, dtype=torch.bool)))
            (loss / 512).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item() / 512)
        return sum(losses[-10:]) / 10

    assert final_loss("muon") < final_loss("adamw") - 0.1


def test_offloading_its_state_is_refused() -> None:
    with pytest.raises(ValueError, match=r"muon .* leave train\.zero\.offload_optimizer unset"):
        TrainConfig.model_validate({"optimizer": {"kind": "muon"}, "zero": {"offload_optimizer": "cpu"}})
