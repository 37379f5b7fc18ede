"""The state of slices as boxes of parameters, from servers to checkpoints and back."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from raypt.parallel.flat.layout import Slice
from raypt.parallel.flat.slice import Snapshot
from raypt.parallel.server.cluster import Servers
from raypt.parallel.server.travel import unpacked
from raypt.parallel.state import MASTER, OUTER, ShardSource, StateKey, StateShard, Want

Owned = Iterable[tuple[Slice, Any]]
"""Slices that a rank writes and reads, each with the handle of its server."""


def read_slices(servers: Servers, owned: Owned) -> StateShard:
    """The state of some slices, copied between two updates."""
    tensors: dict[StateKey, Tensor] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    scalars: dict[str, float] = {}
    for cut, actor in owned:
        snapshot: Snapshot = servers.ask("for their state", [actor.snapshot.remote()])[0]
        scalars |= snapshot.scalars
        for state, array in snapshot.states.items():
            flat = unpacked(array)
            for segment in cut.segments:
                shapes[segment.name] = segment.shape
                for box, view in segment.piece(flat).boxes(flat):
                    tensors[StateKey(segment.name, state, box)] = view
    return StateShard(tensors, shapes, scalars)


def fill_slices(servers: Servers, owned: Owned, source: ShardSource) -> None:
    """Give servers the state of their slices; each passes through the memory of the caller."""
    for cut, actor in owned:
        names = {state for segment in cut.segments for state in source.states(segment.name) - {OUTER}} | {MASTER}
        states = {state: torch.zeros(cut.numel) for state in sorted(names)}
        wants = [
            Want(StateKey(segment.name, state, box), view)
            for segment in cut.segments
            for state in source.states(segment.name) - {OUTER}
            for box, view in segment.piece(states[state]).boxes(states[state])
        ]
        source.read(wants)
        scalars = dict(source.scalars) if len(states) > 1 else {}
        snapshot = Snapshot({state: flat.numpy() for state, flat in states.items()}, scalars)
        servers.ask("to take a state", [actor.load.remote(snapshot)])
