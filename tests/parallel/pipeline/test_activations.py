"""Bytes of activations."""

import pytest
import torch

from raypt.model import Llama, ModelConfig
from raypt.parallel.pipeline.activations import ActivationMeter

CONFIG = ModelConfig(
    vocab_size=67, hidden_size=32, intermediate_size=48, num_layers=3, num_heads=4, num_kv_heads=4, tie_embeddings=False
)


def test_what_autograd_saves_is_counted_once_a_storage_without_parameters_until_it_is_freed() -> None:
    weight = torch.nn.Parameter(torch.ones(8, 8))
    meter = ActivationMeter([weight])
    with meter.watching([]):
        x = torch.ones(4, 8)
        y = (x @ weight).exp()  # saves x, and its own result
        z = y[:2] * y[2:]  # saves two views of that result
    assert meter.bytes == 2 * 4 * 8 * 4
    z.sum().backward()
    assert meter.bytes == 0
    assert meter.peak == 2 * 4 * 8 * 4


def test_a_watched_tensor_counts_as_long_as_somebody_has_it() -> None:
    meter = ActivationMeter([])
    x = torch.ones(10)
    meter.watch(x)
    meter.watch(x[:5])
    assert meter.bytes == 40
    del x
    assert (meter.bytes, meter.peak) == (0, 40)


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_of_a_checkpointed_block_its_input_is_counted(blocks: int) -> None:
    model = Llama(CONFIG, "full").initialise(0)
    meter = ActivationMeter(model.parameters())
    layers = list(model.model.layers)[:blocks]
    tokens_BS = torch.zeros(2, 16, dtype=torch.long)
    with meter.watching(layers):
        x_BSE = torch.ones(2, 16, 32, requires_grad=True)
        out_BSE = model.blocks(layers, x_BSE, model.context(tokens_BS, None))
    one = x_BSE.numel() * 4
    assert meter.bytes == blocks * one
    out_BSE.sum().backward()
    del x_BSE, out_BSE
    assert meter.bytes == 0
