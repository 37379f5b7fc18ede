"""Gradients of weights apart from those of inputs."""

import pytest
import torch
from torch import Tensor

from raypt.model import Llama, ModelConfig
from raypt.parallel.pipeline.weights import PutOff, split

CONFIG = ModelConfig(
    vocab_size=67, hidden_size=32, intermediate_size=49, num_layers=2, num_heads=4, num_kv_heads=2,
    qkv_bias=True, tie_embeddings=False,
)  # fmt: skip


def walk(checkpointing: str, put_off: PutOff | None) -> tuple[Tensor, Llama]:
    """One backward pass from the blocks' sum; the gradient of their input."""
    model = Llama(CONFIG, checkpointing).initialise(0)
    if put_off is not None:
        split(model.model.layers, put_off)
    random = torch.Generator().manual_seed(1)
    tokens_BS = torch.randint(0, 67, (2, 16), generator=random)
    x_BSE = torch.randn(2, 16, 32, generator=random).requires_grad_()
    out_BSE = model.blocks(model.model.layers, x_BSE, model.context(tokens_BS, None))
    out_BSE.backward(torch.randn(2, 16, 32, generator=random))
    assert x_BSE.grad is not None
    return x_BSE.grad, model


@pytest.mark.parametrize("checkpointing", ["none", "full", "selective"])
def test_gradients_put_off_are_those_of_one_walk_to_the_bit(checkpointing: str) -> None:
    want, whole = walk(checkpointing, None)
    put_off = PutOff()
    got, model = walk(checkpointing, put_off)
    assert torch.equal(got, want)
    matrices = {n for n, p in model.model.layers.named_parameters() if p.dim() == 2}
    before = {n for n, p in model.model.layers.named_parameters() if p.grad is not None}
    assert before == {n for n, _ in model.model.layers.named_parameters()} - matrices
    work = put_off.taken()
    assert len(work) == len(matrices) and put_off.taken() == []
    for each in work:
        each()
    true = dict(whole.model.layers.named_parameters())
    for name, p in model.model.layers.named_parameters():
        want_grad = true[name].grad
        assert p.grad is not None and want_grad is not None
        assert torch.equal(p.grad, want_grad), name


def test_hooks_on_parameters_see_a_gradient_put_off_when_it_is_made() -> None:
    put_off = PutOff()
    seen: list[bool] = []
    model = Llama(CONFIG).initialise(0)
    split(model.model.layers, put_off)
    weight = model.model.layers[0].mlp.up_proj.weight
    weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad is not None))
    x_BSE = torch.ones(1, 4, 32)
    model.blocks(model.model.layers, x_BSE, model.context(torch.zeros(1, 4, dtype=torch.long), None)).sum().backward()
    assert seen == []
    for work in put_off.taken():
        work()
    assert seen == [True]
