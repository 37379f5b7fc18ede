"""First weights, read as a state: any box of any parameter."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.model import Llama, ModelConfig
from raypt.parallel.initial_state import _AT_ONCE, InitialState
from raypt.parallel.state import MASTER, Box, StateKey, Want
from tests.parallel.test_state import boxes_in

MODEL = ModelConfig(vocab_size=96, hidden_size=32, intermediate_size=48, num_layers=1, tie_embeddings=False)
WHOLE = dict(Llama(MODEL).initialise(3).named_parameters())


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_a_box_is_that_of_the_whole_parameter(name: str, data: st.DataObject) -> None:
    shape = tuple(WHOLE[name].shape)
    box = data.draw(boxes_in(shape))
    out = torch.full((2 * box.shape[0], *box.shape[1:]), torch.nan)[::2]  # a view with gaps, as pieces are
    InitialState(MODEL, 3).read([Want(StateKey(name, MASTER, box), out)])
    assert torch.equal(out, WHOLE[name].detach()[box.inside(Box.whole(shape))])


def test_few_columns_and_many_rows_of_a_wide_matrix_are_those_of_the_whole() -> None:
    """Drawn row by row, and by several rows at a time."""
    state = InitialState(MODEL.model_copy(update={"vocab_size": 300, "hidden_size": 1 << 15}), 0)
    name = "lm_head.weight"
    whole = torch.empty(state.weights.shapes[name])
    assert math.prod(whole.shape) > 2 * _AT_ONCE
    state.read([Want(StateKey(name, MASTER, Box.whole(whole.shape)), whole)])
    assert torch.equal(whole.view(-1), state.weights.run(name, 0, whole.numel()))
    box = Box((7, 30000), (250, 20))
    few = torch.empty(box.shape)
    state.read([Want(StateKey(name, MASTER, box), few)])
    assert torch.equal(few, whole[box.inside(Box.whole(whole.shape))])
