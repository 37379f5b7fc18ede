"""What the ranks of the reshard test do: train, save at each ZeRO stage, and resume what others saved."""

import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raypt.model.batch import micro_batch
from raypt.parallel import comm
from raypt.tokens.stream.cursor import Cursor
from raypt.training.checkpoint.directory import latest_checkpoint
from raypt.training.checkpoint.manifest import Progress
from raypt.training.checkpoint.reader import CheckpointReader
from raypt.training.checkpoint.writer import CheckpointWriter
from raypt.training.config import CheckpointConfig
from tests.parallel import cases

SAVE_AT, MORE = 4, 20
STAGES = range(4)


def train(engine: Any, first: int, last: int) -> list[float]:
    """The losses of steps [first, last): the same 16 samples a step for every number of ranks."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    plan = cases.plan_for(world)
    out = []
    for step in range(first, last):
        tokens = np.random.default_rng(step).zipf(1.5, (plan.samples_per_step, cases.LENGTH + 1)) % 128
        batches = []
        for start in plan.starts(0)[rank]:
            rows = np.arange(start, start + plan.micro_batch_size)
            batch = {"tokens": tokens[rows], "segments": np.ones_like(tokens[rows]), "sample_index": rows}
            batches.append(micro_batch(batch))
        out.append(engine.forward_backward(batches).loss)
        engine.step(1.0)
    return out


def run(checkpoints: str, save: bool, stay: bool, pairs: list[list[int]]) -> dict[str, list[float]]:
    """If `save`: train at each stage up to a checkpoint at SAVE_AT, in `checkpoints`/<ranks>-<stage>, and if `stay`
    MORE steps after it. Then, for each of `pairs` (ranks that saved, stage that was saved, stage to go on with), the
    MORE losses after the checkpoint.
    """
    torch.set_num_threads(1)
    device = comm.init_process_group(use_gpu=False)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    plan = cases.plan_for(world)
    out: dict[str, list[float]] = {}
    for stage in STAGES if save else ():
        engine = cases.engine_for(stage, "fp32", plan, device)
        train(engine, 0, SAVE_AT)
        uri = str(Path(checkpoints) / f"{world}-{stage}")
        writer = CheckpointWriter(uri, CheckpointConfig(), rank=rank, world=world, meta={})
        name = comm.broadcast_object(writer.new_name(SAVE_AT))
        writer.save(name, engine.shard(), Progress(step=SAVE_AT, cursor=Cursor(0, "f")))
        if stay:
            out[f"stayed-{stage}"] = train(engine, SAVE_AT, SAVE_AT + MORE)
        writer.wait()
        comm.barrier()
    for ranks, saved, stage in pairs:
        info = latest_checkpoint(str(Path(checkpoints) / f"{ranks}-{saved}"))
        assert info is not None
        engine = cases.engine_for(stage, "fp32", plan, device)
        engine.restore(CheckpointReader(info))
        out[f"{ranks}-{saved}-{stage}"] = train(engine, SAVE_AT, SAVE_AT + MORE)
    return out


def all_stages(*ranks: int) -> list[tuple[int, int, int]]:
    """Every pair of stages from checkpoints of each of these numbers of ranks."""
    return list(product(ranks, STAGES, STAGES))
