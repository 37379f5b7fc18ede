"""A training run that learns nothing and records every sample it is given: python -m tests.tokens.recorder ARGUMENTS.

It curates raw documents if asked to and tokenizes in the background, as jobs/pretrain.py does, and commits a cursor
every few steps, as a checkpoint would.
"""

import json
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import ray
import ray.train
import ray.train.collective
import xxhash
from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from raypt import storage
from raypt.config_io import validate
from raypt.run.config import RunConfig as JobConfig
from raypt.run.curate import curate
from raypt.run_dir import RunDir
from raypt.tokens.config import TokenizerConfig, TokensConfig
from raypt.tokens.parts import part_uris
from raypt.tokens.stream.cursor import Cursor
from raypt.tokens.stream.dataset import Batches, StreamDataConfig, make_train_dataset
from raypt.tokens.stream.producer import Tokenizing
from raypt.tokens.stream.spec import StorePlan, StreamSpec, plan_stream, prepare_store
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.tokens.tokenizer.trainer import prepare_tokenizer


@dataclass(frozen=True)
class Recording:
    """One run: `root` holds curated/, tokenizer/ and, once it runs, store/, records/ and cursor.json."""

    root: str
    workers: int
    steps: int
    step_s: float
    labels: dict[str, str]
    address: str
    commit_every: int = 3
    global_batch: int = 24
    sequence_length: int = 32
    raw: str = ""
    """Directory of <source>-*.jsonl files, of which curated/ and tokenizer/ are made first; "" = both are there."""

    @property
    def config(self) -> TokensConfig:
        stream = {
            "labels": self.labels,
            "fetcher_cpus": 0.2,
            "tokenizer_cpus": 0.5,
            "window_shards": 1,
            "ahead_shards": 1,
            "ahead_steps": 2,
            "stall_timeout_s": 90,
        }
        packing = {"sequence_length": self.sequence_length}
        return TokensConfig.model_validate(
            {"packing": packing, "stream": stream, "tokenizer": {"path": f"{self.root}/tokenizer"}}
        )

    def plan(self) -> StorePlan:
        parts, tokenizer = part_uris(f"{self.root}/curated"), Tokenizer.load(f"{self.root}/tokenizer")
        return prepare_store(parts, tokenizer, self.config, self.store, seed=0)

    def spec(self, plan: StorePlan | None = None) -> StreamSpec:
        samples = self.steps * self.global_batch
        return plan_stream(
            plan or self.plan(), self.config, samples=samples, global_batch=self.global_batch, ranks=(1, 2, 3, 4)
        )

    @property
    def store(self) -> str:
        return f"{self.root}/store"

    @property
    def cursor_file(self) -> Path:
        return Path(self.root) / "cursor.json"

    @property
    def records(self) -> Path:
        return Path(self.root) / "records"

    def steps_done(self) -> int:
        """One more than the furthest step that some rank has recorded."""
        return max((int(name.split("-")[0]) + 1 for name in storage.listdir(str(self.records))), default=0)

    def recorded(self) -> list[list[dict[str, Any]]]:
        """By step, what each rank recorded, in rank order."""
        by_step: list[list[dict[str, Any]]] = [[] for _ in range(self.steps)]
        for name in storage.listdir(str(self.records)):
            by_step[int(name.split("-")[0])].append(storage.read_json(str(self.records / name)))
        return by_step

    def cursor(self) -> Cursor | None:
        return Cursor(**json.loads(self.cursor_file.read_text())) if self.cursor_file.exists() else None


def row_hashes(tokens: npt.NDArray[Any]) -> list[str]:
    """A hash of each row's ids, whatever their type."""
    return [xxhash.xxh3_64_hexdigest(row.tobytes()) for row in tokens.astype(np.int32)]


def work(config: dict[str, Any]) -> None:
    """One train worker: record each step's samples, commit the cursor behind a barrier."""
    run: Recording = config["run"]
    context = ray.train.get_context()
    rank, ranks = context.get_world_rank(), context.get_world_size()
    cursor = run.cursor()
    first = cursor.next_sample // run.global_batch if cursor else 0
    if rank == 0:
        for name in storage.listdir(str(run.records)):
            if int(name.split("-")[0]) >= first:
                storage.remove(str(run.records / name))
    ray.train.collective.barrier()
    rows = Batches(ray.train.get_dataset_shard("train"), 2)
    for step in range(first, run.steps):
        record: dict[str, Any] = {"ranks": ranks, "rank": rank, "samples": [], "hashes": []}
        for _ in range(run.global_batch // ranks // 2):
            batch = next(rows)
            record["samples"] += batch["sample_index"].tolist()
            record["hashes"] += row_hashes(batch["tokens"])
        storage.write_json(str(run.records / f"{step:05d}-{rank}"), record)
        if (step + 1) % run.commit_every == 0:
            ray.train.collective.barrier()
            if rank == 0:
                value = {"next_sample": (step + 1) * run.global_batch, "fingerprint": config["fingerprint"]}
                storage.write_json(str(run.cursor_file), value)
        time.sleep(run.step_s)


def data_side(run: Recording) -> JobConfig:
    """The configuration that makes curated/ of raw documents."""
    sources = [{"name": name, "paths": f"{run.raw}/{name}-*.jsonl"} for name in ("web", "books")]
    job = {
        "ray": {"min_actors": 2, "max_actors": 2},
        "corpus": {"sources": sources, "shard_bytes": 650_000},
        "curation": {"stages": ["language", "gopher_quality", "pii"]},
        "dedup": {"enabled": False},
    }
    return validate(JobConfig, job)


def curate_raw(run: Recording) -> None:
    """From raw documents to curated/ and a tokenizer trained on it."""
    curate(data_side(run), RunDir(run.root))
    # WordPiece is encoded four times as slowly as byte-level BPE: a task is that much longer at its work.
    parts, tokenizer = part_uris(f"{run.root}/curated"), TokenizerConfig(vocab_size=600, algorithm="wordpiece")
    prepare_tokenizer(parts, tokenizer, f"{run.root}/tokenizer", seed=0)


def main(run: Recording) -> None:
    logging.basicConfig(level=logging.INFO)
    ray.init(address=run.address, log_to_driver=False)
    if run.raw:
        curate_raw(run)
    run.records.mkdir(exist_ok=True)
    plan = run.plan()
    spec = run.spec(plan)
    tokenizing = Tokenizing(plan, run.config, f"{run.root}/tokenizer", spec, max_in_flight=1)
    DataParallelTrainer(
        work,
        train_loop_config={"run": run, "fingerprint": spec.fingerprint},
        scaling_config=ScalingConfig(num_workers=run.workers, resources_per_worker={"CPU": 0.1, "train": 1}),
        run_config=RunConfig(
            name=f"{run.workers}", storage_path=f"{run.root}/train", failure_config=FailureConfig(max_failures=5)
        ),
        datasets={"train": make_train_dataset(spec, run.cursor)},
        dataset_config=StreamDataConfig(spec),
    ).fit()
    tokenizing.wait()


if __name__ == "__main__":
    main(Recording(**json.loads(sys.argv[1])))
