"""Weights to begin from: any box of them, of Hugging Face's files and of checkpoints, and rows for new tokens."""

from pathlib import Path

import pytest
import torch

from raypt import storage
from raypt.errors import UserError
from raypt.model import Llama, ModelConfig, export_hf
from raypt.model.weights import in_blocks
from raypt.parallel.state import MASTER, Box, StateKey, Want
from raypt.training import starting_weights
from raypt.training.starting_weights import HubState, MoreTokens, StartingWeights, WeightsAlone

torch.set_num_threads(1)
MODEL = ModelConfig(
    vocab_size=96, hidden_size=32, intermediate_size=64, num_layers=2, num_heads=2, num_kv_heads=1, qkv_bias=True,
    tie_embeddings=False,
)  # fmt: skip
BOXES = {
    "model.layers.1.mlp.up_proj.weight": [
        Box((0, 0), (64, 32)), Box((3, 0), (40, 32)), Box((7, 5), (1, 20)), Box((0, 8), (64, 8)), Box((60, 31), (4, 1)),
    ],
    "model.norm.weight": [Box((0,), (32,)), Box((30,), (2,))],
    "model.layers.0.self_attn.q_proj.bias": [Box((5,), (9,))],
}  # fmt: skip
"""Whole, rows, a part of a row, columns: what ZeRO and tensor parallelism cut."""


def export(uri: str, dtype: torch.dtype, shard_bytes: int = 20_000) -> dict[str, torch.Tensor]:
    parameters = dict(Llama(MODEL).initialise(0).named_parameters())
    export_hf(MODEL, lambda name: in_blocks(parameters[name]), uri, dtype=dtype, shard_bytes=shard_bytes)
    return {name: p.detach().to(dtype).float() for name, p in parameters.items()}


def wanted(box: Box, name: str, state: str = MASTER) -> Want:
    return Want(StateKey(name, state, box), torch.full(box.shape, torch.nan))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("block", [64 << 20, 256])
def test_any_box_is_read_of_files_of_any_number_and_type(
    dtype: torch.dtype, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starting_weights, "BLOCK", block)
    parameters = export(str(tmp_path), dtype)
    state = HubState(str(tmp_path), MODEL)
    wants = [wanted(box, name) for name, boxes in BOXES.items() for box in boxes]
    state.read(wants)
    for (name, _, box), out in wants:
        expected = parameters[name][tuple(slice(o, o + n) for o, n in zip(*box, strict=True))]
        assert torch.equal(out, expected), (name, box)


def test_no_byte_is_read_but_those_of_the_box(monkeypatch: pytest.MonkeyPatch) -> None:
    export("memory://hub", torch.bfloat16)
    state = HubState("memory://hub", MODEL)
    read: list[int] = []
    real = storage.read_range

    def counted(uri: str, start: int, length: int) -> bytes:
        read.append(length)
        return real(uri, start, length)

    monkeypatch.setattr(storage, "read_range", counted)
    name = "model.layers.1.mlp.up_proj.weight"
    state.read([wanted(Box((3, 0), (40, 32)), name), wanted(Box((7, 5), (1, 20)), name)])
    assert sorted(read) == [2 * 20, 2 * 40 * 32]


def test_weights_of_another_shape_are_refused_by_name(tmp_path: Path) -> None:
    export(str(tmp_path), torch.float32)
    other = MODEL.model_copy(update={"intermediate_size": 48})
    with pytest.raises(UserError, match=r"mlp\.gate_proj\.weight has shape"):
        StartingWeights(str(tmp_path), is_checkpoint=False, model=other).open()


class Saved:
    """A state of two parameters, element for element known."""

    def __init__(self) -> None:
        self.scalars = {"step": 7.0}
        generator = torch.Generator().manual_seed(0)
        shapes = {"lm_head.weight": (96, 32), "model.layers.0.mlp.up_proj.weight": (64, 32)}
        self.values = {
            (name, state): torch.randn(shape, generator=generator)
            for name, shape in shapes.items()
            for state in (MASTER, "exp_avg")
        }

    def states(self, name: str) -> set[str]:
        return {MASTER, "exp_avg"}

    def read(self, wants: list[Want]) -> None:
        for (name, state, box), out in wants:
            out.copy_(self.values[name, state][tuple(slice(o, o + n) for o, n in zip(*box, strict=True))])


@pytest.mark.parametrize("block", [64 << 20, 1024])
def test_new_tokens_begin_as_the_mean_of_the_known_ones(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting_weights, "BLOCK", block)
    saved, known = Saved(), 90
    grown = MoreTokens(saved, {"lm_head.weight": (96, 32)}, known)  # type: ignore[arg-type]
    table, inner = "lm_head.weight", "model.layers.0.mlp.up_proj.weight"
    boxes = [Box((0, 0), (128, 32)), Box((88, 4), (10, 8)), Box((100, 0), (1, 32)), Box((0, 0), (90, 32))]
    wants = [wanted(box, table, state) for box in boxes for state in (MASTER, "exp_avg")]
    others = [wanted(Box((60, 0), (4, 32)), inner)]
    grown.read([*wants, *others])
    for (name, state, box), out in wants:
        old = saved.values[name, state][:known]
        new = old.double().mean(dim=0).float() if state == MASTER else torch.zeros(32)
        expected = torch.cat([old, new.expand(128 - known, 32)])
        inside = tuple(slice(o, o + n) for o, n in zip(*box, strict=True))
        torch.testing.assert_close(out, expected[inside], rtol=0, atol=1e-7)  # a sum in float64 in another order
    assert torch.equal(others[0].out, saved.values[inner, MASTER][60:])


def test_weights_alone_bring_no_state_of_the_optimizer() -> None:
    alone = WeightsAlone(Saved())  # type: ignore[arg-type]
    assert alone.states("lm_head.weight") == {MASTER}
    assert not alone.scalars
