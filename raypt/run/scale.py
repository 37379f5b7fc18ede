"""What a run of many shards costs its driver on an object store: requests a shard and seconds, by stage.

    python jobs/bench.py scale --shards 1e5 --latency-ms 30

Synthetic shards of one small document each, in an object store in memory that pauses at each of the driver's requests
(`raypt.bench.latency`). The stages are those of the main job, run in this process one task after the other; the time
and the requests of the tasks are kept apart, since on a cluster they are many machines'. Then the finished run is
started again, up to the first batch of the training stream: that is what a month of training does after each fault.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from raypt import storage, tasks
from raypt.bench.latency import STATE, object_store
from raypt.config_io import validate
from raypt.corpus.cutting import FilePiece, Shard
from raypt.corpus.manifest import Manifest, build_manifest
from raypt.run.config import RunConfig
from raypt.run.curate import curate
from raypt.run.stages import observers
from raypt.run.stream import start_stream
from raypt.run_dir import RunDir
from raypt.tokens.stream.reader import SampleReader

log = logging.getLogger("raypt")

TEXT = "The {} ferry crossed the bay at noon, and the people on the pier waved to those who had come to {}. "
SETTINGS: dict[str, Any] = {
    "run": {"dir": "latency://bucket/run", "name": "scale"},
    "corpus": {"sources": [{"name": "text", "paths": ["latency://bucket/in/*.jsonl"]}]},
    "curation": {"stages": ["gopher_quality"], "gopher_quality": {"word_count_min": 5, "stop_word_count_min": None}},
    "dedup": {"max_removed_fraction": None},
    "tokens": {
        "tokenizer": {"vocab_size": 400, "sample_bytes": 100_000},
        "packing": {"sequence_length": 64},
        "heldout": {"fraction": 0.01},
        "stream": {"ahead_shards": None},
    },
    "train": {"global_batch_tokens": 4096, "micro_batch_size": 4, "workers": 1, "steps": 10},
}


class StageFigures:
    """Wall and CPU seconds of the driver by stage, tasks left out."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        before, STATE.stage = STATE.stage, name
        start, in_tasks = time.perf_counter(), tasks.INLINE.seconds
        cpu = time.process_time() - tasks.INLINE.cpu_s
        try:
            yield
        finally:
            spent = time.perf_counter() - start - (tasks.INLINE.seconds - in_tasks)
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
            self.cpu_s[name] = self.cpu_s.get(name, 0.0) + time.process_time() - tasks.INLINE.cpu_s - cpu
            STATE.stage = before
            print(f"{name}: {time.perf_counter() - start:.0f} s, {spent:.1f} of them the driver's", file=sys.stderr)


def write_inputs(shards: int) -> None:
    for i in range(shards):
        row = {"id": str(i), "text": TEXT.format(i, i * 7919) * 3}
        storage.write_bytes(f"latency://bucket/in/part-{i:07d}.jsonl", (json.dumps(row) + "\n").encode())


def one_file_a_shard(found: Manifest) -> Manifest:
    """A run would group files as small as these."""
    shards = tuple(Shard(i, "text", (FilePiece(i, 0, None, file.size),)) for i, file in enumerate(found.files))
    return Manifest(found.sources, found.files, shards)


def first_batch(config: RunConfig, run: RunDir, figures: StageFigures) -> None:
    """The driver's way from its start to the first batch of the stream."""
    curated = curate(config, run, in_process=True)
    with figures.stage("stream"):
        spec, _, tokenizing = start_stream(config, run, curated, [1])
        tokenizing.wait()
    with figures.stage("first batch"), tasks.as_task():  # the fetchers' work, on the data nodes
        next(SampleReader(spec).rank_blocks(0, 1))


def measure(shards: int, latency_s: float) -> dict[str, Any]:
    """{start: {stage: ...}, resume: {stage: ...}}: each {requests, requests_a_shard, driver_s, by operation}."""
    config = validate(RunConfig, SETTINGS)
    run = RunDir(config.run_uri)
    out: dict[str, Any] = {"shards": shards, "latency_ms": 1000 * latency_s}
    with object_store(latency_s) as store:
        write_inputs(shards)
        store.counting = True
        for start in ("start", "resume"):
            figures = StageFigures()
            store.figures.clear()
            began, in_tasks = time.perf_counter(), tasks.INLINE.seconds
            observers.append(figures.stage)
            try:
                if start == "start":
                    with figures.stage("manifest"):
                        manifest = one_file_a_shard(build_manifest(config.corpus, run.uri))
                        storage.write_json(run.manifest, manifest.to_json())
                first_batch(config, run, figures)
            finally:
                observers.remove(figures.stage)
            wall = time.perf_counter() - began - (tasks.INLINE.seconds - in_tasks)
            out[start] = {"driver_s": round(wall, 2), "stages": _rows(figures, shards)}
    return out


def _rows(figures: StageFigures, shards: int) -> dict[str, Any]:
    rows = {}
    for name, found in STATE.figures.items():
        requests = found.driver.total()
        rows[name or "other"] = {
            "driver_s": round(figures.seconds.get(name, 0.0), 2),
            "driver_cpu_s": round(figures.cpu_s.get(name, 0.0), 2),
            "driver_requests": requests,
            "driver_requests_a_shard": round(requests / shards, 4),
            "by_operation": dict(found.driver),
            "task_requests_a_shard": round(found.tasks.total() / shards, 3),
            "task_by_operation": dict(found.tasks),
            "bytes_read": found.bytes_read,
        }
    return rows


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench.py scale", description=__doc__)
    parser.add_argument("--shards", type=lambda s: int(float(s)), default=1000)
    parser.add_argument("--latency-ms", type=float, default=30.0)
    options = parser.parse_args(argv)
    logging.getLogger("raypt").setLevel(logging.WARNING)
    found = measure(options.shards, options.latency_ms / 1000)
    for start in ("start", "resume"):
        print(f"{start}: the driver took {found[start]['driver_s']:.1f} s besides the tasks")
        heads = f"{'driver s':>10}{'of CPU':>9}{'requests':>10}{'a shard':>9}{'tasks, a shard':>16}"
        print(f"  {'stage':<12}{heads}  the driver's, by operation")
        for name, row in found[start]["stages"].items():
            operations = ", ".join(f"{k} {v}" for k, v in row["by_operation"].items())
            print(
                f"  {name:<12}{row['driver_s']:>10.2f}{row['driver_cpu_s']:>9.2f}{row['driver_requests']:>10}"
                f"{row['driver_requests_a_shard']:>9.3f}{row['task_requests_a_shard']:>16.2f}  {operations}"
            )
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
