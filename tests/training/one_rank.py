"""A checkpoint as a run of one rank leaves it, without a run."""

from pathlib import Path

from raypt.model import Llama
from raypt.parallel.state import MASTER, Box, StateKey, StateShard
from raypt.training.checkpoint.manifest import CheckpointInfo, Progress
from raypt.training.checkpoint.writer import CheckpointWriter
from raypt.training.config import CheckpointConfig


def checkpoint(root: Path, model: Llama, *, add_bos: bool = False, step: int = 1) -> CheckpointInfo:
    """Of one rank, without optimizer state."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    tensors = {StateKey(name, MASTER, Box.whole(p.shape)): p for name, p in parameters.items()}
    shard = StateShard(tensors, {name: tuple(p.shape) for name, p in parameters.items()})
    meta = {"model": model.config.model_dump(), "add_bos": add_bos, "precision": "fp32"}
    writer = CheckpointWriter(str(root), CheckpointConfig(), rank=0, world=1, meta=meta)
    writer.save(writer.new_name(step), shard, Progress(step=step))
    info = writer.wait()
    assert info is not None
    return info
