"""The state before the first step, of which any rank on any mesh takes its part as it would from a checkpoint."""

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from raypt.model import ModelConfig
from raypt.model.initial import InitialWeights
from raypt.model.llama import parameter_shapes
from raypt.parallel.state import MASTER, Box, Want

_AT_ONCE = 1 << 22
"""Elements in memory beside those that are asked for."""
_DEAR_RUN = 1 << 13
"""A run of elements drawn by itself costs as much as this many more in a longer one."""


class InitialState:
    """First weights as a `ShardSource`: drawn as they are read, and no optimizer state."""

    scalars: Mapping[str, float] = {}  # the protocol's property; nobody writes to it

    def __init__(self, model: ModelConfig, seed: int) -> None:
        self.weights = InitialWeights(model, parameter_shapes(model), seed)

    def states(self, name: str) -> set[str]:
        """See ShardSource."""
        return {MASTER}

    def read(self, wants: Sequence[Want]) -> None:
        """See ShardSource."""
        for key, out in wants:
            assert key.state == MASTER, "there is no other state before the first step"
            self._fill(key.name, key.box, out)

    def _fill(self, name: str, box: Box, out: Tensor) -> None:
        whole = tuple(self.weights.shapes[name])
        width = math.prod(whole[1:])
        first, rows = box.offset[0], box.shape[0]
        columns = box.shape[1] if len(whole) > 1 else 1
        assert len(whole) <= 2
        if columns < width - _DEAR_RUN:
            for i in range(rows):
                out[i].copy_(self.weights.run(name, (first + i) * width + box.offset[1], columns))
            return
        for at in range(0, rows, step := max(1, _AT_ONCE // width)):
            some = min(step, rows - at)
            drawn = self.weights.run(name, (first + at) * width, some * width).view(some, *whole[1:])
            if len(whole) > 1:
                drawn = drawn[:, box.offset[1] : box.offset[1] + columns]
            out[at : at + some].copy_(drawn)
