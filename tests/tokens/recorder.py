"""A training run that learns nothing and records every sample it is given: python -m tests.tokens.recorder ARGUMENTS.

It tokenizes in the background, as jobs/pretrain.py does, and commits a cursor every few steps, as a checkpoint would.
"""

import json
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.collective
import xxhash
from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from raypt import storage
from raypt.tokens.config import TokensConfig
from raypt.tokens.parts import part_uris
from raypt.tokens.plan import Cursor, StreamSpec, plan_stream, prepare_store
from raypt.tokens.producer import Tokenizing
from raypt.tokens.stream import Batches, StreamDataConfig, make_train_dataset
from raypt.tokens.tokenizer import Tokenizer


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
        return TokensConfig.model_validate(
            {"packing": {"sequence_length": 32}, "stream": stream, "tokenizer": {"path": f"{self.root}/tokenizer"}}
        )

    def spec(self) -> StreamSpec:
        plan = prepare_store(
            part_uris(f"{self.root}/curated"), Tokenizer.load(f"{self.root}/tokenizer"), self.config, self.store, seed=0
        )
        samples = self.steps * self.global_batch
        return plan_stream(plan, self.config, samples=samples, global_batch=self.global_batch, ranks=(1, 2, 3, 4))

    @property
    def store(self) -> str:
        return f"{self.root}/store"

    @property
    def cursor_file(self) -> Path:
        return Path(self.root) / "cursor.json"

    @property
    def records(self) -> Path:
        return Path(self.root) / "records"

    def cursor(self) -> Cursor | None:
        return Cursor(**json.loads(self.cursor_file.read_text())) if self.cursor_file.exists() else None


def work(config: dict[str, Any]) -> None:
    """One train worker: record each step's samples, commit the cursor behind a barrier."""
    run: Recording = config["run"]
    context = ray.train.get_context()
    rank, ranks = context.get_world_rank(), context.get_world_size()
    cursor = run.cursor()
    first = cursor.next_sample // run.global_batch if cursor else 0
    if rank == 0:
        for file in run.records.iterdir():
            # A worker killed while it wrote leaves a .tmp file behind.
            if not file.name.startswith(".") and int(file.name.split("-")[0]) >= first:
                file.unlink()
    ray.train.collective.barrier()
    rows = Batches(ray.train.get_dataset_shard("train"), 2)
    for step in range(first, run.steps):
        record: dict[str, Any] = {"ranks": ranks, "rank": rank, "samples": [], "hashes": []}
        for _ in range(run.global_batch // ranks // 2):
            batch = next(rows)
            record["samples"] += batch["sample_index"].tolist()
            record["hashes"] += [xxhash.xxh3_64_hexdigest(row.tobytes()) for row in batch["tokens"]]
        storage.write_json(str(run.records / f"{step:05d}-{rank}"), record)
        if (step + 1) % run.commit_every == 0:
            ray.train.collective.barrier()
            if rank == 0:
                value = {"next_sample": (step + 1) * run.global_batch, "fingerprint": config["fingerprint"]}
                storage.write_json(str(run.cursor_file), value)
        time.sleep(run.step_s)


def main(run: Recording) -> None:
    logging.basicConfig(level=logging.INFO)
    ray.init(address=run.address, log_to_driver=False)
    run.records.mkdir(exist_ok=True)
    spec = run.spec()
    plan = prepare_store(
        part_uris(f"{run.root}/curated"), Tokenizer.load(f"{run.root}/tokenizer"), run.config, run.store, seed=0
    )
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
