"""Curation over shards: tag (Ray Data actors), then decide (cheap tasks that read attribute columns only).

Each file is whole or absent, so an interrupted stage goes on at the shards that are missing.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data

from raypt import storage
from raypt.corpus.account import ReadAccount
from raypt.corpus.config import CorpusConfig
from raypt.corpus.manifest import Manifest
from raypt.corpus.reader import NOTHING, read_shard
from raypt.curation.attempts import begin, finish, watched, watched_items
from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.ledger import curation_ledger
from raypt.curation.poison import find_poison
from raypt.curation.quality.model import QualityModel
from raypt.curation.quality.threshold import QualityThreshold
from raypt.curation.tagger import Tagger
from raypt.ledger import Ledger
from raypt.ray_session import RaySection
from raypt.run_dir import RunDir
from raypt.tasks import TaskProgress, run_tasks, user_error_in

log = logging.getLogger("raypt")

SCORE_BINS = 40


def tag_shard(
    run: RunDir,
    manifest: Manifest,
    corpus: CorpusConfig,
    tagger: Tagger,
    shard: int,
    factory: Callable[[], Tagger] | None = None,
) -> dict[str, Any]:
    """Read and tag one shard; write its documents, its quarantine and, last, its account, which is returned.

    A shard whose account exists is done and is not read again. `factory` makes the same tagger in another process: with
    it, a worker that hangs is ended, and a shard that ended workers is looked through for the reason.
    """
    if storage.exists(run.tag_account(shard)):
        return storage.read_json(run.tag_account(shard))
    start, cpu = time.time(), time.process_time()
    poison, seconds = NOTHING, None
    if factory is not None:
        poison = begin(run, shard, partial(find_poison, manifest, shard, corpus, run.uri, factory))
        seconds = corpus.max_batch_seconds
    quarantined: list[dict[str, Any]] = []
    account = ReadAccount()
    documents = source_bytes = 0
    with storage.atomic_write(run.tagged(shard)) as f:
        writer = None
        for batch in watched_items(read_shard(manifest, shard, corpus, run.uri, poison), seconds):
            with watched(seconds):
                tagged = tagger.tag(batch.documents)
            if writer is None:
                writer = pq.ParquetWriter(f, tagged.schema, compression="zstd")
            writer.write_table(tagged.cast(writer.schema))
            documents += tagged.num_rows
            source_bytes += int(pa.compute.sum(tagged["source_bytes"]).as_py() or 0)
            quarantined += batch.quarantined
            account.add(batch)
        assert writer is not None
        writer.close()
    if quarantined:
        lines = (json.dumps(entry, ensure_ascii=False) for entry in quarantined)
        storage.write_bytes(run.quarantine(shard), ("\n".join(lines) + "\n").encode())
    summary = {
        "shard": shard,
        "source": manifest.shards[shard].source,
        "documents": documents,
        "bytes": source_bytes,
        **account.to_json(),
        "cpu_s": time.process_time() - cpu,
        "seconds": time.time() - start,
    }
    storage.write_json(run.tag_account(shard), summary)
    if factory is not None:
        finish(run, shard)
    return summary


def make_tagger(curation: CurationConfig, quality_uri: str | None) -> Tagger:
    """A tagger with its models."""
    return Tagger(curation, QualityModel.load(quality_uri, curation.quality) if quality_uri else None)


class TagShards:
    """A Ray Data actor around `tag_shard`: models are loaded and kernels compiled once."""

    def __init__(self, run_uri: str, corpus: CorpusConfig, curation: CurationConfig, quality_uri: str | None) -> None:
        self._run, self._corpus = RunDir(run_uri), corpus
        stored = Manifest.from_json(storage.read_json(self._run.manifest), self._run.manifest)
        self._manifest = stored.with_credentials(corpus.sources)
        self._factory = partial(make_tagger, curation, quality_uri)
        self._tagger = self._factory()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        accounts = [
            tag_shard(self._run, self._manifest, self._corpus, self._tagger, int(s), self._factory)
            for s in batch["shard"]
        ]
        return {"account": [json.dumps(account) for account in accounts]}


def tag(
    run: RunDir,
    manifest: Manifest,
    corpus: CorpusConfig,
    curation: CurationConfig,
    quality_uri: str | None,
    actors: RaySection,
) -> list[dict[str, Any]]:
    """Tag every shard with an autoscaling pool of Ray Data actors; the accounts, in shard order."""
    shards = list(range(len(manifest.shards)))
    todo = [s for s in shards if not storage.exists(run.tag_account(s))]
    if todo:
        cpus = max(1, int(ray.cluster_resources().get("CPU", 1) / actors.actor_cpus))
        most = max(actors.min_actors, actors.max_actors or cpus)
        dataset = ray.data.from_items([{"shard": s} for s in todo], override_num_blocks=len(todo)).map_batches(
            TagShards,
            fn_constructor_args=(run.uri, corpus, curation, quality_uri),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=min(actors.min_actors, len(todo)), max_size=most),
            num_cpus=actors.actor_cpus,
        )
        dataset.set_name("curate")
        progress = TaskProgress("curate", len(todo))
        try:
            for _ in dataset.iter_rows():
                progress.add()
        except ray.exceptions.RayTaskError as e:
            raise user_error_in(e) or e from None
    return [storage.read_json(run.tag_account(s)) for s in shards]


@dataclass(frozen=True)
class DecideTask:
    """One shard to decide on."""

    run_uri: str
    shard: int
    config: CurationConfig
    threshold: QualityThreshold | None


def decide_shard(task: DecideTask) -> dict[str, Any]:
    """Keep or drop each document of a tagged shard; writes (doc_key, reason), returns {ledger, quality_scores}."""
    run = RunDir(task.run_uri)
    if storage.exists(run.decide_account(task.shard)):
        return storage.read_json(run.decide_account(task.shard))
    with storage.open_read(run.tagged(task.shard)) as f:
        file = pq.ParquetFile(f)
        tagged = file.read([c for c in file.schema_arrow.names if c != "text"])
    reason = decide(tagged, task.config, task.threshold)
    storage.write_parquet(run.decided(task.shard), pa.table({"doc_key": tagged["doc_key"], "reason": reason}))
    summary = {
        "ledger": curation_ledger(tagged, reason, task.config).to_json(),
        "quality_scores": _score_histogram(tagged),
    }
    storage.write_json(run.decide_account(task.shard), summary)
    return summary


def _score_histogram(tagged: pa.Table) -> list[int]:
    """Documents by quality score in SCORE_BINS equal bins of [0, 1]; empty without scores."""
    if "quality_score" not in tagged.column_names:
        return []
    scores = np.clip(tagged["quality_score"].to_numpy(), 0.0, 1.0)
    return np.histogram(scores[np.isfinite(scores)], bins=SCORE_BINS, range=(0.0, 1.0))[0].tolist()


def decide_all(run: RunDir, manifest: Manifest, config: CurationConfig, threshold: QualityThreshold | None) -> Ledger:
    """Decide on every shard; the merged ledger of the curation stages. Leaves the score histogram for the report."""
    tasks = [DecideTask(run.uri, s.index, config, threshold) for s in manifest.shards]
    ledger = Ledger()
    scores = np.zeros(SCORE_BINS, np.int64)
    for part in run_tasks(decide_shard, tasks, name="decide"):
        ledger.merge(Ledger.from_json(part["ledger"]))
        scores += np.array(part["quality_scores"] or np.zeros(SCORE_BINS), np.int64)
    ledger.check()
    minimum = None if threshold is None else threshold.minimum
    storage.write_json(run.quality_scores, {"histogram": scores.tolist(), "threshold": minimum})
    return ledger
