"""First weights: any part by itself, the same everywhere, and normal."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from raypt.model import Llama, ModelConfig
from raypt.model.initial import _PAIRS, InitialWeights, _log, draw
from raypt.model.llama import parameter_shapes

N = 4 * _PAIRS + 1000
WHOLE = draw("7/a", 0, N)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, N - 1), st.integers(1, 5000), st.booleans())
def test_a_part_is_drawn_bitwise_as_in_the_whole(start: int, numel: int, far: bool) -> None:
    numel = N - start if far else min(numel, N - start)
    assert torch.equal(draw("7/a", start, numel), WHOLE[start : start + numel])


def test_values_are_standard_normal_and_pairs_independent() -> None:
    values = draw("0/b", 0, 2_000_000).double().numpy()
    assert stats.kstest(values, "norm").pvalue > 1e-3
    # Of n products of independent normal values the mean has a deviation of 1 / sqrt(n), of squares 2 / sqrt(n).
    x, y = values[0::2], values[1::2]
    assert abs((x * y).mean()) < 5e-3
    assert abs(((x**2 - 1) * (y**2 - 1)).mean()) < 1e-2
    assert 4.5 < np.abs(values).max() < 6


def test_the_values_are_those_of_every_machine() -> None:
    """Sums, products, quotients and roots are rounded alike everywhere, so these bits may be written down."""
    assert draw("0/model.norm", 0, 6).numpy().view(np.uint32).tolist() == GOLDEN


GOLDEN = [3196426902, 3206602215, 3188656158, 3190754744, 1059220903, 1071273555]


def test_the_logarithm_is_right_to_the_rounding_of_float32() -> None:
    x = np.concatenate([np.linspace(2**-24, 1, 100_001), 2.0 ** -np.arange(25)]).astype(np.float32)
    exact = np.log(x.astype(np.float64))
    np.testing.assert_allclose(_log(x), exact, rtol=3e-7, atol=1e-7)


def test_names_and_seeds_draw_other_values() -> None:
    others = [draw(key, 0, 1000) for key in ("0/a", "0/b", "1/a")]
    for i, a in enumerate(others):
        for b in others[:i]:
            assert abs(float(np.corrcoef(a, b)[0, 1])) < 0.15  # 1 / sqrt(1000), five times


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_holds_the_values_of_its_parameters_names(tied: bool) -> None:
    config = ModelConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_layers=2, tie_embeddings=tied)
    model, weights = Llama(config).initialise(3), InitialWeights(config, parameter_shapes(config), 3)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.detach().view(-1), weights.run(name, 0, parameter.numel()))
    deeper = Llama(config.model_copy(update={"num_layers": 4, "depth_scaled_init": False})).initialise(3)
    name = "model.layers.1.mlp.gate_proj.weight"
    assert torch.equal(model.get_parameter(name), deeper.get_parameter(name)), "other layers change no value"
