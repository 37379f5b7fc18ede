"""Slices update as the whole does, and their snapshots hold all of their state."""

from typing import Any

import numpy as np
import pytest
import torch

from raypt.parallel.flat.layout import Flat
from raypt.parallel.flat.slice import SliceState, Snapshot
from raypt.parallel.state import MASTER
from raypt.training.config import OptimizerConfig
from raypt.training.optim.optimizer import build_optimizer

SHAPES = {"model.a.weight": (30, 50), "model.norm.weight": (70,), "model.c.weight": (20, 40)}
FLAT = Flat(SHAPES)


def states(config: OptimizerConfig, servers: int) -> list[SliceState]:
    out = []
    first = torch.randn(FLAT.numel, generator=torch.Generator().manual_seed(1))
    for cut in FLAT.cut(servers):
        state = SliceState(FLAT, cut, lambda held: build_optimizer(held, config), config.clip_norm)
        state.load(Snapshot({MASTER: cut.of(first).numpy()}))
        out.append(state)
    return out


def run(slices: list[SliceState], steps: range) -> np.ndarray:
    for step in steps:
        gradient = torch.randn(FLAT.numel, generator=torch.Generator().manual_seed(10 + step))
        norm = sum(s.square(s.cut.of(gradient)) for s in slices) ** 0.5
        for s in slices:
            s.update(s.cut.of(gradient).clone(), norm, 0.5)
    return torch.cat([s.weights for s in slices]).numpy()


@pytest.mark.parametrize("kind", ["adamw", "lion"])
@pytest.mark.parametrize("servers", [1, 3])
def test_slices_are_updated_as_torch_updates_whole_parameters(kind: Any, servers: int) -> None:
    config = OptimizerConfig(kind=kind, lr=1e-2, groups=({"match": "*.c.*", "lr_scale": 0.3, "weight_decay": 0.0},))  # type: ignore[arg-type]
    got = run(states(config, servers), range(4))

    class Whole(torch.nn.Module):
        def named_parameters(self, *args: Any, **kwargs: Any) -> Any:
            yield from parameters.items()

    first = torch.randn(FLAT.numel, generator=torch.Generator().manual_seed(1))
    parameters = {
        name: torch.nn.Parameter(first[place.start : place.start + place.numel].view(place.shape).clone())
        for name, place in FLAT.places.items()
    }
    optimizer = build_optimizer(Whole(), config)  # type: ignore[arg-type]
    for group in optimizer.param_groups:
        group["lr"] *= 0.5
    for step in range(4):
        gradient = torch.randn(FLAT.numel, generator=torch.Generator().manual_seed(10 + step))
        for place, p in zip(FLAT.places.values(), parameters.values(), strict=True):
            p.grad = gradient[place.start : place.start + place.numel].view(place.shape).clone()
        torch.nn.utils.clip_grad_norm_(parameters.values(), config.clip_norm or 0)
        optimizer.step()
    want = torch.cat([p.detach().reshape(-1) for p in parameters.values()]).numpy()
    # The norm is summed in another order: its last bit moves a clipped gradient by as much.
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["adamw", "lion"])
def test_a_snapshot_taken_into_a_new_slice_goes_on_bit_by_bit(kind: Any) -> None:
    config = OptimizerConfig(kind=kind, lr=1e-2)
    slices, again = states(config, 2), states(config, 2)
    run(slices, range(3))
    for old, new in zip(slices, again, strict=True):
        new.load(old.snapshot())
    assert np.array_equal(run(slices, range(3, 6)), run(again, range(3, 6)))
