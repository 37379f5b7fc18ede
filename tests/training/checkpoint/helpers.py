"""Small checkpoints for tests: `w` of ten elements with one optimizer state."""

from pathlib import Path

import torch

from raypt.parallel.state import MASTER, Box, StateKey, StateShard, Want
from raypt.tokens.stream.cursor import Cursor
from raypt.training.checkpoint.manifest import CheckpointInfo, Progress
from raypt.training.checkpoint.reader import CheckpointReader
from raypt.training.checkpoint.writer import CheckpointWriter
from raypt.training.config import CheckpointConfig

WEIGHT = torch.arange(10, dtype=torch.float32)


def at(state: str, start: int, numel: int) -> StateKey:
    return StateKey("w", state, Box((start,), (numel,)))


def shard(world: int = 1, rank: int = 0) -> StateShard:
    """One rank's part of `w`, cut evenly."""
    size = 10 // world
    piece = slice(rank * size, (rank + 1) * size)
    tensors = {at(MASTER, rank * size, size): WEIGHT[piece], at("exp_avg", rank * size, size): -WEIGHT[piece]}
    return StateShard(tensors, {"w": (10,)}, {"step": 3.0})


def save(uri: Path | str, step: int, *, heldout: float | None = None, **config: object) -> CheckpointInfo:
    writer = CheckpointWriter(str(uri), CheckpointConfig.model_validate(config), rank=0, world=1, meta={"m": 1})
    progress = Progress(step=step, updates=step, cursor=Cursor(8 * step, "print"), heldout_loss=heldout)
    writer.save(writer.new_name(step), shard(), progress)
    info = writer.wait()
    assert info is not None
    return info


def read(reader: CheckpointReader, state: str, start: int, numel: int) -> torch.Tensor:
    out = torch.empty(numel)
    reader.read([Want(at(state, start, numel), out)])
    return out
