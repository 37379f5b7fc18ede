"""A training of a study: one worker, in a Ray task among others, with the loop and the checkpoints of any run."""

import logging
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from raypt import storage
from raypt.artefact import Card, Identity, Output, make
from raypt.errors import UserError
from raypt.run.config import RunConfig
from raypt.run.study.data import Heldout, Tokens
from raypt.tokens.config import MixtureConfig
from raypt.tokens.parts import group_names
from raypt.tokens.stream.spec import StreamSpec, plan_stream
from raypt.tokens.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from raypt.training.checkpoint.manifest import CheckpointInfo

FORMAT = 2
CARD = "card.json"
METRICS, JUDGED = "metrics.parquet", "judged.parquet"
BRANCH = "branch.json"
BATCH = 16
"""Sequences of one forward pass when documents are judged."""
HOW_IT_RUNS = {
    "workers", "use_gpu", "cpus_per_worker", "threads_per_worker", "checkpoint", "log_every", "tensorboard",
    "wandb_project", "peak_tflops", "max_failures", "collective_timeout_s", "first_step_timeout_s", "stall_warning_s",
    "stop_timeout_s", "start_timeout_s", "labels", "resize_check_s", "profile",
}  # fmt: skip
"""Keys of `train` that do not decide what is learned."""
KEPT = ("step", "tokens", "loss", "heldout_loss", "heldout_bits_per_byte", "grad_norm", "skipped_steps", "step_s")
"""Keys of a metrics line that go into the study's table."""


@dataclass(frozen=True)
class Training:
    """All that the task needs; small and picklable."""

    uri: str
    """Its directory."""
    identity: Identity
    worker: Any
    """WorkerSpec; not imported here, since torch comes with it."""
    stream: StreamSpec
    heldout: Heldout
    mixture: MixtureConfig
    """Whose entries name a held-out document's group."""

    @property
    def steps(self) -> int:
        return int(self.worker.train.steps)


def plan_training(config: RunConfig, tokens: Tokens, heldout: Heldout, seed: int, study_uri: str) -> Training:
    """What a variant's configuration comes to with one seed."""
    from raypt.training.worker import WorkerSpec

    train, length = config.train, tokens.config.packing.sequence_length
    if train.global_batch_tokens % (length * train.micro_batch_size):
        raise UserError(
            f"train.global_batch_tokens={train.global_batch_tokens} is not a multiple of {length} tokens x "
            f"train.micro_batch_size={train.micro_batch_size}"
        )
    weights = {s.name: s.weight for s in config.corpus.sources}
    batch = train.global_batch_tokens // length
    stream = plan_stream(
        replace(tokens.plan, seed=seed),
        tokens.config.model_copy(update={"mixture": config.tokens.mixture}),
        samples=train.steps * batch,
        global_batch=batch,
        ranks=[1],
        weights=weights if len(set(weights.values())) > 1 and config.tokens.mixture.by == ("source",) else None,
        micro_batch=train.micro_batch_size,
    )
    model = config.model.for_vocabulary(tokens.tokenizer.vocab_size)
    settings = {
        "model": model.model_dump(mode="json"),
        "train": train.model_dump(mode="json", exclude=HOW_IT_RUNS),
        "stream": stream.fingerprint,
        "seed": seed,
    }
    identity = Identity("trainings", FORMAT, {"heldout": heldout.card.content}, settings)
    uri = identity.place(study_uri)
    worker = WorkerSpec(
        model=model,
        train=train,
        sequence_length=length,
        run_uri=uri,
        heldout_uri=tokens.heldout_uri,
        tokenizer_uri=tokens.tokenizer_uri,
        fingerprint=stream.fingerprint,
        seed=seed,
        record_samples=False,
        add_bos=tokens.config.packing.add_bos,
    )
    return Training(uri, identity, worker, stream, heldout, config.tokens.mixture)


def train(training: Training) -> Card:
    """Train from the newest checkpoint to the end, judge the held-out documents; nothing where that was done.

    Raises:
        UserError: the samples end before the last step.
    """
    return make(training.identity, training.uri, CARD, lambda output: _train(training, output))


def finished(training: Training) -> bool:
    """Whether that was done before."""
    return storage.exists(storage.join(training.uri, CARD))


def advance(training: Training) -> "CheckpointInfo":
    """Train from the newest checkpoint to the end; that of the end.

    Raises:
        UserError: the samples end before the last step.
    """
    _alone(training)
    from raypt.training.checkpoint.directory import latest_checkpoint
    from raypt.training.loop import Hooks
    from raypt.training.worker import quiet_libraries, run_worker

    logging.getLogger("raypt").setLevel(logging.WARNING)  # a dozen trainings' lines are no log
    quiet_libraries()
    newest = latest_checkpoint(storage.join(training.uri, "checkpoints"))
    at = 0 if newest is None else newest.cursor.next_sample
    if newest is None or newest.step < training.steps:
        run_worker(training.worker, _micro_batches(training, at), Hooks())
        newest = latest_checkpoint(storage.join(training.uri, "checkpoints"))
    if newest is None or newest.step < training.steps:
        raise UserError(
            f"the samples end after step {0 if newest is None else newest.step} of {training.steps}: the limits in "
            "tokens.mixture.limits hold fewer tokens than train.steps asks for"
        )
    return newest


def _train(training: Training, output: Output) -> dict[str, Any]:
    began = time.perf_counter()
    newest = advance(training)
    from raypt.training.records import read_metrics

    rows = read_metrics(training.uri)
    columns = {key: [row.get(key) for row in rows] for key in KEPT}
    groups = sorted({name for row in rows for name in row.get("heldout", {})})
    for name in groups:
        found = [row.get("heldout", {}).get(name, {}) for row in rows]
        columns[f"heldout/{name}"] = [entry.get("bits_per_byte") for entry in found]
    columns |= _tasks(rows)
    output.write_parquet(METRICS, pa.table(columns))
    judged = judge(training, newest)
    output.write_parquet(JUDGED, judged)
    made = [row["step_s"] for row in rows if row["step"] > branched_at(training)]
    return {
        "steps": newest.step,
        "made_steps": len(made),
        "tokens": rows[-1]["tokens"],
        "seconds": sum(made),
        "task_seconds": time.perf_counter() - began,
    }


def branched_at(training: Training) -> int:
    """The step up to which another training of its family was its own (`branches`); 0 = none."""
    uri = storage.join(training.uri, BRANCH)
    return int(storage.read_json(uri)["step"]) if storage.exists(uri) else 0


def _tasks(rows: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    """Accuracy by task and group of questions, where they were asked."""
    out: dict[str, list[float | None]] = {}
    for i, row in enumerate(rows):
        for name, task in row.get("tasks", {}).items():
            for group, accuracy in {"": task["accuracy"], **task.get("by_group", {})}.items():
                out.setdefault(task_column(name, group), [None] * len(rows))[i] = accuracy
    return dict(sorted(out.items()))


def task_column(task: str, group: str = "") -> str:
    """Of the study's table: accuracy of a task, or of a group of its questions."""
    return f"tasks/{task}/{group}" if group else f"tasks/{task}"


def _alone(training: Training) -> None:
    """A process group of one, for the life of this process: the next training in it takes the same."""
    import torch.distributed as dist

    if dist.is_initialized():
        return
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    group = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    os.environ.update(group | {"MASTER_PORT": str(port)})
    if not training.worker.train.use_gpu:
        os.environ["DS_ACCELERATOR"] = "cpu"


def _micro_batches(training: Training, start: int) -> Iterator[dict[str, np.ndarray]]:
    """The samples from `start` on, `micro_batch_size` at a time, without Ray Data: one reader, next to the trainer."""
    from raypt.tokens.stream.reader import SampleReader

    size = training.worker.train.micro_batch_size
    for block in SampleReader(training.stream).rank_blocks(0, 1, start):
        rows = block["sample_index"].size
        assert rows % size == 0, "blocks are whole micro-batches"
        for at in range(0, rows, size):
            part = {name: column[at : at + size] for name, column in block.items()}
            yield part | {name: part[name].astype(np.int32) for name in ("tokens", "segments")}


def judge(training: Training, checkpoint: Any) -> pa.Table:
    """document, group, nats, tokens and bytes of each held-out document, each token scored once."""
    import torch

    from raypt.model import load_hf
    from raypt.model.scoring import score, windows
    from raypt.training.export import export_checkpoint

    export = storage.join(training.uri, "export")
    export_checkpoint(checkpoint, training.worker.tokenizer_uri, export)
    device = "cuda" if training.worker.train.use_gpu else "cpu"
    model, tokenizer = load_hf(export, torch.float32, device), Tokenizer.load(export)
    start = tokenizer.bos_id if tokenizer.adds_bos else None
    documents = storage.read_parquet(training.heldout.part)
    length = training.worker.sequence_length
    pairs: list[tuple[list[int], list[int]]] = []
    owner: list[int] = []
    tokens, size = [], []
    for i, text in enumerate(documents["text"].to_pylist()):
        ids = tokenizer.encode(text)
        unscored = tokenizer.decode(ids[:1]) if start is None else ""
        mine = list(windows(ids, start, length, length))
        pairs += mine
        owner += [i] * len(mine)
        tokens.append(sum(len(continuation) for _, continuation in mine))
        size.append(max(0, len(text.encode()) - len(unscored.encode())))
    found = score(model, pairs, max_length=length, batch_size=BATCH)
    nats = -np.bincount(owner, [s.log_probability for s in found], documents.num_rows)
    groups = [
        group_names(b, training.mixture.by, training.heldout.part, training.mixture.edges)
        for b in documents.combine_chunks().to_batches()
    ]
    return pa.table(
        {
            "document": documents["doc_key"],
            "group": pa.chunked_array(groups, pa.string()),
            "nats": nats,
            "tokens": pa.array(tokens, pa.int64()),
            "bytes": pa.array(size, pa.int64()),
        }
    )
