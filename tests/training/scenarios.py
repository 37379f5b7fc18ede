"""What the ranks of the loop tests do: whole runs without Ray, on the tiny run's store."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raypt import storage
from raypt.errors import UserError
from raypt.model import ModelConfig
from raypt.parallel import comm
from raypt.parallel.config import ParallelConfig, ZeroConfig
from raypt.tokens.stream.reader import SampleReader
from raypt.training.checkpoint.directory import latest_checkpoint, list_checkpoints
from raypt.training.checkpoint.writer import CheckpointWriter
from raypt.training.config import (
    CheckpointConfig,
    EvaluationConfig,
    OptimizerConfig,
    ProfileConfig,
    SpikeConfig,
    TaskConfig,
    TrainConfig,
)
from raypt.training.export import export_checkpoint
from raypt.training.loop import Hooks
from raypt.training.sizes import topology
from raypt.training.starting_weights import StartingWeights
from raypt.training.worker import WorkerSpec, run_worker
from tests.training import tiny_run


def rows(data: Path, rank: int, world: int, first: int, last: int) -> Iterator[dict[str, Any]]:
    """Samples [first, last) of the stream, micro-batches of 2 dealt round-robin, as the Ray stream does."""
    _, stream, _, _ = tiny_run.prepare(data)
    reader = SampleReader(stream)
    for start in range(first + 2 * rank, last, 2 * world):
        batch = reader.fetch(reader.resolve(start, start + 2))
        yield {k: np.asarray(v) for k, v in batch.items()}


def spec_for(data: Path, out: Path, train: TrainConfig) -> WorkerSpec:
    plan, stream, tokenizer_uri, model = tiny_run.prepare(data)
    return WorkerSpec(
        model=model,
        train=train,
        sequence_length=tiny_run.LENGTH,
        run_uri=str(out),
        heldout_uri=storage.join(plan.uri, "heldout"),
        tokenizer_uri=tokenizer_uri,
        fingerprint=stream.fingerprint,
        seed=0,
        record_samples=True,
    )


class Scenario:
    """Runs one after another in the same processes; each in its own directory."""

    def __init__(self, data: str) -> None:
        comm.init_process_group(use_gpu=False)
        self.data = Path(data)
        self.rank, self.world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.reported: list[int] = []

    def run(
        self,
        out: Path,
        *,
        first: int = 0,
        last: int | None = None,
        hooks: Hooks | None = None,
        starting: Any = None,
        untied: bool = False,
        **train: Any,
    ) -> None:
        config = tiny_run.train_config().model_copy(update={"workers": self.world, **train})
        end = last if last is not None else tiny_run.STEPS * tiny_run.BATCH
        hooks = hooks or Hooks(committed=lambda metrics, info: self.reported.append(metrics["step"]))
        place = topology(config, self.rank, self.world)
        # What the others of a replica bring must not matter.
        own = rows(self.data, place.data_rank, place.data_size, first, end) if place.leads_replica else iter(())
        spec = replace(spec_for(self.data, out, config), starting=starting)
        if untied:
            spec = replace(spec, model=spec.model.model_copy(update={"tie_embeddings": False}))
        run_worker(spec, own, hooks)

    def resume_sample(self, out: Path) -> int:
        info = latest_checkpoint(str(out / "checkpoints")) if self.rank == 0 else None
        return int(comm.broadcast_object(None if info is None else info.cursor.next_sample))


def everything(data: str, root: str) -> dict[str, Any]:
    """On two ranks."""
    s, base, out = Scenario(data), Path(root), {}
    s.run(base / "whole", checkpoint=CheckpointConfig(every_steps=6, keep_last=9))
    out["reported"] = list(s.reported)
    s.run(base / "fixed-order", last=2 * tiny_run.BATCH, deterministic=True)
    torch.use_deterministic_algorithms(False)

    begin(s, base)
    # The samples end early: the run stops where they do, and goes on when there are more.
    s.run(base / "short", last=10 * tiny_run.BATCH + 4, checkpoint=CheckpointConfig(every_steps=None))
    out["short_ended_at"] = s.resume_sample(base / "short") // tiny_run.BATCH
    try:
        s.run(base / "short", first=11 * tiny_run.BATCH)
    except RuntimeError as e:
        out["wrong_cursor"] = str(e)
    try:
        s.run(base / "short", first=10 * tiny_run.BATCH, optimizer=OptimizerConfig(kind="lion"))
    except UserError as e:
        out["other_optimizer"] = str(e)
    try:
        s.run(base / "short", first=10 * tiny_run.BATCH, global_batch_tokens=2 * tiny_run.LENGTH * tiny_run.BATCH)
    except UserError as e:
        out["other_batch"] = str(e)
    s.run(base / "short", first=10 * tiny_run.BATCH)
    out["whole_when_asked"] = preempted(s, base / "preempted")
    try:
        # Such a rate makes the weights infinite at once.
        s.run(base / "diverged", optimizer=OptimizerConfig(lr=1e38, clip_norm=None), max_skipped_in_a_row=3)
    except UserError as e:
        out["diverged"] = str(e)

    # A jump of the loss, made by tripling the rate for a moment: here by poisoned samples.
    for action in ("skip", "rewind"):
        spike(s, base / f"spike-{action}", action)
    # The loss may do anything; its gradient's norm may not.
    norms = SpikeConfig(sigma=1e9, grad_norm_sigma=4.0, window=8)
    spike(s, base / "spike-norm", "skip", spike=norms)
    spike(s, base / "spike-early", "rewind", checkpoint=CheckpointConfig(every_steps=100))
    s.run(base / "traced", last=4 * tiny_run.BATCH, profile=ProfileConfig(first_step=2, steps=2), tensorboard=True)
    comm.barrier()
    return out


def begin(s: Scenario, base: Path) -> None:
    """Two steps from the weights of the run `whole`, at several stages, out of its export and its last checkpoint."""
    info = latest_checkpoint(str(base / "whole" / "checkpoints"))
    assert info is not None
    if s.rank == 0:
        export_checkpoint(info, str(s.data / "tokenizer"), str(base / "export"), shard_bytes=30_000)
    comm.barrier()
    model = ModelConfig.model_validate(info.meta["model"])
    for name, stages, optimizer in (("export", (0, 1, 3), False), ("checkpoint", (1, 3), False), ("all", (1, 3), True)):
        uri = str(base / "export") if name == "export" else info.uri
        start = StartingWeights(uri, is_checkpoint=name != "export", model=model, optimizer=optimizer)
        for stage in stages:
            zero = ZeroConfig(stage=stage)
            s.run(base / f"begin-{name}-{stage}", last=2 * tiny_run.BATCH, starting=start, zero=zero)


def preempted(s: Scenario, out: Path) -> list[list[int]]:
    """A run that has notice from step 4 on, and whose rank 1 is slow to write. Before each step it is asked for notice:
    the checkpoints that are whole by then.
    """
    whole: list[list[int]] = []

    def notice() -> bool:
        whole.append([info.step for info in list_checkpoints(str(out / "checkpoints"))])
        return len(whole) >= 4

    write = CheckpointWriter._write

    def slow(self: CheckpointWriter, *args: Any) -> None:
        if s.rank == 1:
            time.sleep(1)
        write(self, *args)

    CheckpointWriter._write = slow  # type: ignore[method-assign]
    try:
        s.run(out, last=6 * tiny_run.BATCH, hooks=Hooks(preempted=notice), checkpoint=CheckpointConfig(every_steps=100))
    finally:
        CheckpointWriter._write = write  # type: ignore[method-assign]
    return whole


def spike(s: Scenario, out: Path, action: str, hooks: Hooks | None = None, **train: Any) -> None:
    """Random targets in step 14."""
    bad = range(13 * tiny_run.BATCH, 14 * tiny_run.BATCH)

    def poisoned() -> Iterator[dict[str, Any]]:
        for batch in rows(s.data, s.rank, s.world, 0, tiny_run.STEPS * tiny_run.BATCH):
            if int(batch["sample_index"][0]) in bad:
                random = np.random.default_rng(int(batch["sample_index"][0]))
                batch["tokens"] = random.integers(0, 256, batch["tokens"].shape)
            yield batch

    config = tiny_run.train_config().model_copy(
        update={"spike": SpikeConfig(sigma=4.0, window=8, action=action), "workers": s.world, **train}
    )
    run_worker(spec_for(s.data, out, config), poisoned(), hooks or Hooks())


def other_world(data: str, root: str) -> dict[str, Any]:
    """The same run on this many ranks, and one that two ranks began."""
    s, base = Scenario(data), Path(root)
    s.run(base / f"whole-{s.world}")
    s.run(base / "moved", last=12 * tiny_run.BATCH)
    return {}


def move_back(data: str, root: str) -> dict[str, Any]:
    s, base = Scenario(data), Path(root)
    s.run(base / "moved", first=s.resume_sample(base / "moved"))
    return {}


def on_a_mesh(data: str, root: str) -> dict[str, Any]:
    """A run of two replicas; one whose sequences are cut over two ranks; runs whose matrices are: one, and two that
    begin or go on with a replica a rank. One whose samples cannot be read. At a rate under which the loss does not
    jump: where it does, what is rounded otherwise grows a hundredfold in twenty steps.
    """
    s, base = Scenario(data), Path(root)
    if s.rank == 0:
        tiny_run.write_questions(base / "questions.jsonl")
    asked = TaskConfig(name="pairs", path=str(base / "questions.jsonl"), choose_by="byte")
    calm = {
        "optimizer": tiny_run.train_config().optimizer.model_copy(update={"lr": 2e-3}),
        "evaluation": EvaluationConfig(every_steps=8, max_samples=8, tasks=(asked,)),
    }
    cut, replicas = calm | {"parallel": ParallelConfig(tensor=2)}, calm | {"zero": ZeroConfig(stage=3)}
    sequences = calm | {"parallel": ParallelConfig(context=2), "zero": ZeroConfig(stage=2)}
    s.run(base / "whole", **replicas)
    s.run(base / "tensor", **cut)
    s.run(base / "context", **sequences)
    staged = calm | {"parallel": ParallelConfig(pipeline=2)}
    s.run(base / "untied", untied=True, **calm)
    s.run(base / "stages", untied=True, last=12 * tiny_run.BATCH, **staged)
    s.run(base / "stages", untied=True, first=s.resume_sample(base / "stages"), **staged)
    for name, first, second in (("to-tensor", replicas, cut), ("from-tensor", cut, replicas)):
        s.run(base / name, last=12 * tiny_run.BATCH, **first)
        s.run(base / name, first=s.resume_sample(base / name), **second)

    def torn() -> Iterator[dict[str, Any]]:
        yield from rows(s.data, 0, 1, 0, 3 * tiny_run.BATCH)
        raise OSError("the disk is gone")

    config = tiny_run.train_config().model_copy(update=cut)
    try:
        run_worker(spec_for(s.data, base / "torn", config), torn() if s.rank == 0 else iter(()), Hooks())
    except (OSError, RuntimeError) as e:
        return {"torn": f"{type(e).__name__}: {e}"}
    return {}


def foreign_engine(data: str, root: str) -> None:
    """On two ranks: whole runs of raypt's engine and of a user's, and runs that change over half-way."""
    s, base = Scenario(data), Path(root)
    every = CheckpointConfig(every_steps=6, keep_last=9)
    foreign, half = "tests.training.plain_engine:build", tiny_run.STEPS // 2 * tiny_run.BATCH
    s.run(base / "own", checkpoint=every)
    s.run(base / "foreign", checkpoint=every, strategy=foreign)
    s.run(base / "to-own", checkpoint=every, strategy=foreign, last=half)
    s.run(base / "to-own", checkpoint=every, first=half)
    s.run(base / "to-foreign", checkpoint=every, last=half)
    s.run(base / "to-foreign", checkpoint=every, strategy=foreign, first=half)
