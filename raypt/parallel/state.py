"""Training state as pieces of globally named, flattened parameters: the form in which it is saved and moved.

A rank owns pieces [start, start + numel) of parameters, whatever the strategy that cut them: ZeRO 1/2 cuts a flat
buffer of all parameters, ZeRO 3 cuts each parameter, ZeRO 0 owns everything everywhere. Because a piece names its
global position, a state written by any number of ranks at any stage is read by any other: no conversion, no pickle.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

MASTER = "master"
"""The fp32 weight itself, beside the optimizer's states (exp_avg, exp_avg_sq, ...)."""


@dataclass(frozen=True)
class Piece:
    """A run of elements of one parameter, and where this rank holds it."""

    name: str
    start: int
    """First element, in the flattened global parameter."""
    numel: int
    buffer: Tensor
    """Flat float32 tensor that holds the master weights (a view, live)."""
    offset: int
    """Where the piece begins in `buffer` and in the optimizer states of the same length."""

    def of(self, state: Tensor) -> Tensor:
        return state.view(-1).narrow(0, self.offset, self.numel)


@dataclass(frozen=True)
class StateShard:
    """One rank's part of the state: `tensors[key]`, keyed by `key(name, state, start)`, and numbers every rank has."""

    tensors: dict[str, Tensor]
    scalars: dict[str, float] = field(default_factory=dict)

    def copied(self) -> "StateShard":
        """The tensors in host memory, safe to write while training goes on."""
        return StateShard({k: t.detach().to("cpu", copy=True) for k, t in self.tensors.items()}, dict(self.scalars))


def key(name: str, state: str, start: int) -> str:
    return f"{state}:{name}@{start}"


def parse_key(text: str) -> tuple[str, str, int]:
    """(name, state, start) of a key."""
    state, rest = text.split(":", 1)
    name, start = rest.rsplit("@", 1)
    return name, state, int(start)


class ShardSource(Protocol):
    """A saved state: any piece of any parameter."""

    @property
    def scalars(self) -> Mapping[str, float]:
        """The numbers saved beside the tensors."""

    def states(self, name: str) -> set[str]:
        """The states there are of a parameter (MASTER and the optimizer's)."""

    def read(self, name: str, state: str, start: int, numel: int) -> Tensor:
        """Elements [start, start + numel) of a flattened parameter or optimizer state, float32."""


def overlaps(start: int, numel: int, pieces: list[tuple[int, int]]) -> Iterator[tuple[int, int, int, int]]:
    """For each of `pieces` (start, numel) that meets [start, start + numel): (its index, offset inside it, offset in
    the wanted range, length).
    """
    for i, (piece_start, piece_numel) in enumerate(pieces):
        low, high = max(start, piece_start), min(start + numel, piece_start + piece_numel)
        if low < high:
            yield i, low - piece_start, low - start, high - low
