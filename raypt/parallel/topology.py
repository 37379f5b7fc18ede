"""Who a rank is: its coordinates in the mesh of ranks, from its number alone."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

Axis = Literal["pipeline", "data", "context", "tensor"]
AXES: tuple[Axis, ...] = ("pipeline", "data", "context", "tensor")
"""Slowest first: the ranks of a tensor group are neighbours, so that they share a node."""


@dataclass(frozen=True)
class Topology:
    """A rank among `pipeline_size` x `data_size` x `context_size` x `tensor_size` ranks.

    Samples are cut over the data axis alone: the ranks of one replica (all with the same data rank) read the same ones.
    """

    rank: int = 0
    data_size: int = 1
    """Replicas of the model."""
    pipeline_size: int = 1
    """Ranks that a replica's layers are cut over."""
    context_size: int = 1
    """Ranks that a sequence is cut over."""
    tensor_size: int = 1
    """Ranks that a matrix is cut over."""

    def __post_init__(self) -> None:
        assert 0 <= self.rank < self.world_size

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Sizes of `AXES`."""
        return self.pipeline_size, self.data_size, self.context_size, self.tensor_size

    @property
    def world_size(self) -> int:
        return self.data_size * self.replica_size

    @property
    def replica_size(self) -> int:
        """Ranks that hold one model between them."""
        return self.pipeline_size * self.context_size * self.tensor_size

    @property
    def coordinates(self) -> dict[Axis, int]:
        """This rank's place on each axis."""
        return dict(zip(AXES, map(int, np.unravel_index(self.rank, self.shape)), strict=True))

    @property
    def data_rank(self) -> int:
        """Which replica this rank is part of."""
        return self.coordinates["data"]

    @property
    def pipeline_rank(self) -> int:
        return self.coordinates["pipeline"]

    @property
    def context_rank(self) -> int:
        return self.coordinates["context"]

    @property
    def tensor_rank(self) -> int:
        return self.coordinates["tensor"]

    @property
    def leads_replica(self) -> bool:
        """One rank of each replica speaks for it: counts its samples, writes them down."""
        return self.pipeline_rank == self.context_rank == self.tensor_rank == 0

    def of(self, rank: int) -> "Topology":
        """Another rank of the same mesh."""
        return Topology(rank, self.data_size, self.pipeline_size, self.context_size, self.tensor_size)

    def groups(self, *axes: Axis) -> Iterator[list[int]]:
        """All groups of ranks that differ in nothing but `axes`, each in ascending order."""
        numbers = np.arange(self.world_size).reshape(self.shape)
        kept = [i for i, axis in enumerate(AXES) if axis not in axes]
        for place in itertools.product(*(range(self.shape[i]) for i in kept)):
            index: list[int | slice] = [slice(None)] * len(AXES)
            for i, at in zip(kept, place, strict=True):
                index[i] = at
            yield numbers[tuple(index)].ravel().tolist()

    def group(self, *axes: Axis) -> list[int]:
        """This rank's group among `groups`."""
        return next(ranks for ranks in self.groups(*axes) if self.rank in ranks)
