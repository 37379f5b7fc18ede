"""The parameters of a model one after the other as one array, and its cut into slices, one a server."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from raypt.parallel.state import Box, Piece, Shape


class Place(NamedTuple):
    """Where a parameter lies in the flat array."""

    start: int
    shape: Shape

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Segment:
    """The part of a parameter that one slice holds."""

    name: str
    shape: Shape
    """Of the whole parameter."""
    start: int
    """First element, in the flattened parameter."""
    numel: int
    offset: int
    """Where it begins in the slice."""

    def piece(self, buffer: Tensor) -> Piece:
        """As a piece of the state, in a buffer that lies like the slice."""
        return Piece(self.name, self.shape, Box.whole(self.shape), self.start, self.numel, buffer, self.offset)


@dataclass(frozen=True)
class Slice:
    """Elements [start, start + numel) of the flat array."""

    start: int
    numel: int
    segments: tuple[Segment, ...]
    """In order; between them they cover the slice."""

    def of(self, flat: Tensor) -> Tensor:
        """The slice's elements of the flat array: a view."""
        return flat.narrow(0, self.start, self.numel)


class Flat:
    """The layout of the flat array: parameters in the order of the model, without gaps."""

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self.places: dict[str, Place] = {}
        at = 0
        for name, shape in shapes.items():
            self.places[name] = place = Place(at, tuple(shape))
            at += place.numel
        self.numel = at

    @classmethod
    def of(cls, model: nn.Module) -> "Flat":
        """Of a model's parameters; they may lie on the meta device."""
        return cls({name: tuple(p.shape) for name, p in model.named_parameters()})

    def cut(self, servers: int) -> list[Slice]:
        """Slices that differ by one element at most. More servers than elements is a mistake of the caller."""
        if not 1 <= servers <= self.numel:
            raise ValueError(f"{self.numel} elements cannot be cut into {servers} slices")
        bounds = [self.numel * i // servers for i in range(servers + 1)]
        return [self._slice(low, high) for low, high in itertools.pairwise(bounds)]

    def _slice(self, low: int, high: int) -> Slice:
        segments = []
        for name, place in self.places.items():
            first, end = max(low, place.start), min(high, place.start + place.numel)
            if first < end:
                segments.append(Segment(name, place.shape, first - place.start, end - first, first - low))
        return Slice(low, high - low, tuple(segments))
