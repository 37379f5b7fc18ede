"""What one server holds and does, without Ray: a slice of the weights with its optimizer, updated by summed gradients.

The arithmetic is that of ZeRO 0 (`raypt.parallel.zero.update`), over a slice in place of the whole.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from raypt.parallel.flat.layout import Flat, Slice
from raypt.parallel.state import MASTER
from raypt.parallel.zero.update import Cut, adamw, adamw_state, divisor, square_sum

Floats = npt.NDArray[np.float32]


class Held:
    """The parameters of a model as one server sees them: its elements of each, flat, and nothing of the others. What an
    optimizer is built from; `ds_shape` says what shape the whole has, as under ZeRO 3.
    """

    def __init__(self, flat: Flat, cut: Slice, weights: Tensor) -> None:
        held = {s.name: weights.narrow(0, s.offset, s.numel) for s in cut.segments}
        self._parameters: dict[str, nn.Parameter] = {}
        for name, place in flat.places.items():
            self._parameters[name] = nn.Parameter(held.get(name, torch.empty(0)))
            self._parameters[name].ds_shape = torch.Size(place.shape)  # type: ignore[attr-defined]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from self._parameters.items()


MakeOptimizer = Callable[[Any], torch.optim.Optimizer]
"""From something with `named_parameters()`, at the peak rates."""


@dataclass(frozen=True)
class Snapshot:
    """The state of a slice, each as long as the slice: what checkpoints are written from and read into."""

    states: Mapping[str, Floats]
    """MASTER, and the optimizer's once it has made an update."""
    scalars: Mapping[str, float] = field(default_factory=dict)


class SliceState:
    """Weights and optimizer of a slice. It holds no values until `load`."""

    def __init__(self, flat: Flat, cut: Slice, optimizer: MakeOptimizer, clip_norm: float | None) -> None:
        self.cut, self.clip_norm = cut, clip_norm
        self.weights = torch.empty(cut.numel)
        held = Held(flat, cut, self.weights)
        self._optimizer = optimizer(held)
        self._peaks = [group["lr"] for group in self._optimizer.param_groups]
        parameters = dict(held.named_parameters())
        self._parameters = [parameters[s.name] for s in cut.segments]
        self._group_of = {id(p): group for group in self._optimizer.param_groups for p in group["params"]}

    def square(self, gradient: Tensor) -> float:
        """The slice's part of the square of the gradient's norm; not finite if an element is not."""
        return square_sum([gradient])

    @torch.no_grad()
    def update(self, gradient: Tensor, norm: float, lr_scale: float) -> None:
        """One update by the slice of a gradient whose whole has that norm, clipped by it, at `lr_scale` times the peak
        rates. The gradient is not kept, and may be changed.
        """
        assert math.isfinite(norm)
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * lr_scale
        scale = divisor(norm, self.clip_norm)
        plain = type(self._optimizer) is torch.optim.AdamW
        if not plain and scale != 1.0:
            gradient = gradient / scale
        for segment, p in zip(self.cut.segments, self._parameters, strict=True):
            part = gradient.narrow(0, segment.offset, segment.numel)
            if plain:
                state = adamw_state(self._optimizer, p)
                step = state["step"].add_(1)
                adamw(self._group_of[id(p)], step, [Cut(p.detach(), part, None, state["exp_avg"], state["exp_avg_sq"])],
                      scale)  # fmt: skip
            else:
                p.grad = part
        if not plain:
            self._optimizer.step()
            for p in self._parameters:
                p.grad = None

    def snapshot(self) -> Snapshot:
        """A copy of the state as it is now."""
        states: dict[str, Floats] = {MASTER: self.weights.numpy().copy()}
        scalars: dict[str, float] = {}
        for segment, p in zip(self.cut.segments, self._parameters, strict=True):
            for name, value in self._optimizer.state.get(p, {}).items():
                if value.dim() == 0:
                    scalars[name] = float(value)
                    continue
                whole = states.setdefault(name, np.empty(self.cut.numel, np.float32))
                whole[segment.offset : segment.offset + segment.numel] = value.numpy()
        return Snapshot(states, scalars)

    @torch.no_grad()
    def load(self, snapshot: Snapshot) -> None:
        """Take a state, in place of whatever there was."""
        self.weights.copy_(torch.from_numpy(np.array(snapshot.states[MASTER])))
        self._optimizer.state.clear()
        others = {name: torch.from_numpy(np.array(a)) for name, a in snapshot.states.items() if name != MASTER}
        if not others:
            return
        for segment, p in zip(self.cut.segments, self._parameters, strict=True):
            held: dict[str, Any] = {name: torch.tensor(value) for name, value in snapshot.scalars.items()}
            held |= {name: flat.narrow(0, segment.offset, segment.numel) for name, flat in others.items()}
            self._optimizer.state[p] = held
