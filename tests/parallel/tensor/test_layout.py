"""Which parts of a model tensor ranks hold."""

import numpy as np
import pytest

from raypt.model import ModelConfig
from raypt.model.config import PRESETS
from raypt.model.llama import parameter_shapes
from raypt.parallel.state import Box
from raypt.parallel.tensor.layout import kv_heads, layout
from raypt.parallel.tensor.sizes import valid_sizes

ODD = {"vocab_size": 131, "hidden_size": 64, "intermediate_size": 97, "num_layers": 1, "qk_norm": True}


@pytest.mark.parametrize("kv", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("tied", [True, False])
def test_the_parts_cover_every_parameter_and_one_rank_counts_each_element(kv: int, size: int, tied: bool) -> None:
    model = ModelConfig.model_validate({**ODD, "num_heads": 8, "num_kv_heads": kv, "tie_embeddings": tied})
    layouts = [layout(model, size, rank, sequence_parallel=True) for rank in range(size)]
    for name, shape in parameter_shapes(model).items():
        counted, held = np.zeros(shape, int), np.zeros(shape, int)
        for rank, parts in enumerate(layouts):
            part = parts[name]
            assert part.shape == tuple(shape)
            assert part.box.numel > 0
            assert rank in part.holders
            assert all(layouts[other][name].box == part.box for other in part.holders)
            place = part.box.inside(Box.whole(tuple(shape)))
            held[place] += 1
            counted[place] += part.counted
        assert (counted == 1).all(), name
        assert (held == len(layouts[0][name].holders)).all(), name


def test_query_heads_are_with_the_key_value_heads_that_they_attend_with() -> None:
    for heads, kv in ((8, 8), (8, 4), (8, 2), (8, 1), (64, 8)):
        model = ModelConfig.model_validate({**ODD, "hidden_size": 8 * heads, "num_heads": heads, "num_kv_heads": kv})
        for size in valid_sizes(model):
            for rank in range(size):
                first, count = kv_heads(model, size, rank)
                mine = range(rank * heads // size, (rank + 1) * heads // size)
                assert {head // (heads // kv) for head in mine} == set(range(first, first + count))
                assert len(mine) % count == 0


def test_sizes_that_leave_a_head_in_pieces_are_not_valid() -> None:
    model = ModelConfig.model_validate({**ODD, "hidden_size": 96, "num_heads": 12, "num_kv_heads": 4})
    assert valid_sizes(model) == [1, 2, 4, 12]  # over 3 or 6 ranks, 4 key/value heads neither divide nor repeat


@pytest.mark.parametrize("sequence_parallel", [True, False])
def test_gradients_are_terms_where_ranks_see_different_heads_or_positions(sequence_parallel: bool) -> None:
    model = ModelConfig.model_validate({**ODD, "num_heads": 4, "num_kv_heads": 2})
    parts = layout(model, 4, 0, sequence_parallel=sequence_parallel)
    partial = {name.removeprefix("model.layers.0.") for name, part in parts.items() if part.partial}
    heads = {f"self_attn.{name}.weight" for name in ("k_proj", "v_proj", "q_norm", "k_norm")}
    positions = {"input_layernorm.weight", "post_attention_layernorm.weight", "model.norm.weight"}
    assert partial == (heads | positions if sequence_parallel else heads)


@pytest.mark.parametrize(("preset", "size"), [("llama-2-7b", 8), ("llama-2-70b", 8), ("llama-3-70b", 16)])
def test_a_rank_of_a_published_shape_holds_its_share(preset: str, size: int) -> None:
    """To 1 % plus what is replicated: norms, and key/value heads where there are fewer than ranks."""
    model = ModelConfig.model_validate({"preset": preset})
    assert preset in PRESETS
    parts = layout(model, size, size - 1, sequence_parallel=True)
    alike = sum(p.box.numel * (1 - 1 / len(p.holders)) for p in parts.values())
    held = sum(p.box.numel for p in parts.values())
    assert abs((held - alike) / (model.parameters() / size) - 1) < 1e-2
