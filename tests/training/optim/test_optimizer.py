"""Parameter groups and the optimizers of our own."""

import pytest
import torch

from raypt.errors import UserError
from raypt.model import Llama, ModelConfig
from raypt.training.config import OptimizerConfig
from raypt.training.optim.optimizer import Lion, build_optimizer


def test_matrices_are_decayed_and_vectors_are_not() -> None:
    model = Llama(ModelConfig(vocab_size=64, qk_norm=True))
    decayed, plain = build_optimizer(model, OptimizerConfig(weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert {p.dim() for p in decayed["params"]} == {2}
    assert {p.dim() for p in plain["params"]} == {1}
    assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))


def test_lion_follows_its_paper() -> None:
    p = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    optimizer = Lion([p], lr=0.1, betas=(0.9, 0.99), weight_decay=0.5)
    expected, momentum = p.detach().clone(), torch.zeros(3)
    for gradient in (torch.tensor([1.0, -1.0, 0.2]), torch.tensor([-0.05, -1.0, 0.2])):
        p.grad = gradient.clone()
        optimizer.step()
        update = (0.9 * momentum + 0.1 * gradient).sign()
        expected = expected * (1 - 0.1 * 0.5) - 0.1 * update
        momentum = 0.99 * momentum + 0.01 * gradient
        torch.testing.assert_close(p.detach(), expected)


def test_lion_gives_the_same_on_a_flat_cut_as_on_the_whole() -> None:
    whole = torch.nn.Parameter(torch.arange(6.0).view(2, 3))
    cut = torch.nn.Parameter(whole.detach().view(-1)[2:5].clone())
    gradient = torch.tensor([[0.1, -0.2, 0.3], [-0.4, 0.5, -0.6]])
    whole.grad, cut.grad = gradient, gradient.view(-1)[2:5]
    Lion([whole], lr=0.1).step()
    Lion([cut], lr=0.1).step()
    assert torch.equal(whole.detach().view(-1)[2:5], cut.detach())


@pytest.mark.parametrize("kind", ["adamw", "lion", "muon"])
def test_parameters_by_name_have_a_rate_and_a_decay_of_their_own(kind: str) -> None:
    model = Llama(ModelConfig(vocab_size=64, tie_embeddings=False))
    said = [{"match": "*.embed_tokens.*", "lr_scale": 0.5, "weight_decay": 0.0}, {"match": "*.mlp.*", "lr_scale": 0}]
    config = OptimizerConfig.model_validate({"kind": kind, "lr": 0.01, "weight_decay": 0.3, "groups": said})
    groups = build_optimizer(model, config).param_groups
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    for name, p in model.named_parameters():
        decay = 0.3 if p.dim() == 2 else 0.0
        expected = (0.005, 0.0) if "embed" in name else (0.0, decay) if ".mlp." in name else (0.01, decay)
        assert found.pop(id(p)) == expected, name
    assert not found


def test_a_group_that_no_parameter_matches_is_refused_with_the_nearest_name() -> None:
    config = OptimizerConfig.model_validate({"groups": [{"match": "embed_tokens.weight"}]})
    with pytest.raises(UserError, match=r"groups\[0\]\.match=embed_tokens.weight.*one is model\.embed_tokens\.weight"):
        build_optimizer(Llama(ModelConfig(vocab_size=64)), config)
