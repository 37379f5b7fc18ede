"""Curation over shards: tag (Ray Data actors), then decide (cheap tasks that read attribute columns only).

Each file is whole or absent, so an interrupted stage goes on at the shards that are missing.
"""

import functools
import json
import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data

from raypt import storage
from raypt.corpus.config import CorpusConfig
from raypt.corpus.manifest import Manifest
from raypt.corpus.reader import read_shard
from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.ledger import curation_ledger
from raypt.curation.tagger import Tagger
from raypt.errors import UserError
from raypt.ledger import Amount, Ledger, StageAccount
from raypt.ray_session import RaySection
from raypt.run_dir import RunDir
from raypt.tasks import TaskProgress, run_tasks, user_error_in

log = logging.getLogger("raypt")

SCORE_BINS = 40


def tag_shard(run: RunDir, manifest: Manifest, corpus: CorpusConfig, tagger: Tagger, shard: int) -> dict[str, Any]:
    """Read and tag one shard; write its documents, its quarantine and, last, its account, which is returned.

    A shard whose account exists is done and is not read again.
    """
    if storage.exists(run.tag_account(shard)):
        return storage.read_json(run.tag_account(shard))
    start, cpu = time.time(), time.process_time()
    quarantined: list[dict[str, Any]] = []
    lost: Counter[str] = Counter()
    lost_bytes: Counter[str] = Counter()
    documents = source_bytes = 0
    with storage.atomic_write(run.tagged(shard)) as f:
        writer = None
        for batch in read_shard(manifest, shard, corpus, run.uri):
            tagged = tagger.tag(batch.documents)
            if writer is None:
                writer = pq.ParquetWriter(f, tagged.schema, compression="zstd")
            writer.write_table(tagged.cast(writer.schema))
            documents += tagged.num_rows
            source_bytes += int(pa.compute.sum(tagged["source_bytes"]).as_py() or 0)
            quarantined += batch.quarantined
            lost += batch.not_documents
            lost_bytes += batch.bytes_lost
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
        "quarantined": dict(Counter(entry["kind"] for entry in quarantined)),
        "not_documents": dict(lost),
        "lost_bytes": dict(lost_bytes),
        "cpu_s": time.process_time() - cpu,
        "seconds": time.time() - start,
    }
    storage.write_json(run.tag_account(shard), summary)
    return summary


class TagShards:
    """A Ray Data actor around `tag_shard`: models are loaded and kernels compiled once, at the first shard. What it
    returns is the user's mistake that ended the work, or an empty string."""

    def __init__(self, run_uri: str, corpus: CorpusConfig, curation: CurationConfig, artefacts: dict[str, str]) -> None:
        self._run, self._corpus = RunDir(run_uri), corpus
        self._manifest = Manifest.from_json(storage.read_json(self._run.manifest))
        self._make_tagger = functools.partial(Tagger, curation, artefacts)
        self._tagger: Tagger | None = None

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        try:
            self._tagger = self._tagger or self._make_tagger()
            for shard in batch["shard"].tolist():
                tag_shard(self._run, self._manifest, self._corpus, self._tagger, shard)
        except UserError as e:  # as a value: Ray Data wraps an exception, and the wrapped one is lost on the way
            return {"mistake": [str(e)]}
        return {"mistake": [""]}


def tag(
    run: RunDir,
    manifest: Manifest,
    corpus: CorpusConfig,
    curation: CurationConfig,
    artefacts: dict[str, str],
    actors: RaySection,
) -> list[dict[str, Any]]:
    """Tag every shard with an autoscaling pool of Ray Data actors; the accounts, in shard order. `artefacts`: URIs of
    what was made for stages in the run, by name of the stage."""
    shards = list(range(len(manifest.shards)))
    todo = [s for s in shards if not storage.exists(run.tag_account(s))]
    if todo:
        cpus = max(1, int(ray.cluster_resources().get("CPU", 1) / actors.actor_cpus))
        most = max(actors.min_actors, actors.max_actors or cpus)
        dataset = ray.data.from_items([{"shard": s} for s in todo], override_num_blocks=len(todo)).map_batches(
            TagShards,
            fn_constructor_args=(run.uri, corpus, curation, artefacts),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=min(actors.min_actors, len(todo)), max_size=most),
            num_cpus=actors.actor_cpus,
        )
        dataset.set_name("curate")
        progress = TaskProgress("curate", len(todo))
        try:
            for row in dataset.iter_rows():
                if row["mistake"]:
                    raise UserError(row["mistake"])
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
    settled: dict[str, Any]
    """What was settled for stages once for the whole run, by name of the stage."""


def decide_shard(task: DecideTask) -> dict[str, Any]:
    """Keep or drop each document of a tagged shard; writes (doc_key, reason), returns {ledger, quality_scores}."""
    run = RunDir(task.run_uri)
    if storage.exists(run.decide_account(task.shard)):
        return storage.read_json(run.decide_account(task.shard))
    with storage.open_read(run.tagged(task.shard)) as f:
        file = pq.ParquetFile(f)
        tagged = file.read([c for c in file.schema_arrow.names if c != "text"])
    reason = decide(tagged, task.config, task.settled)
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


def decide_all(run: RunDir, manifest: Manifest, config: CurationConfig, settled: dict[str, Any]) -> Ledger:
    """Decide on every shard; the merged ledger of the curation stages. Leaves the score histogram for the report."""
    tasks = [DecideTask(run.uri, s.index, config, settled) for s in manifest.shards]
    ledger = Ledger()
    scores = np.zeros(SCORE_BINS, np.int64)
    for part in run_tasks(decide_shard, tasks, name="decide"):
        ledger.merge(Ledger.from_json(part["ledger"]))
        scores += np.array(part["quality_scores"] or np.zeros(SCORE_BINS), np.int64)
    ledger.check()
    threshold = settled.get("quality")
    minimum = None if threshold is None else threshold.minimum
    storage.write_json(run.quality_scores, {"histogram": scores.tolist(), "threshold": minimum})
    return ledger


def reading_account(accounts: list[dict[str, Any]]) -> StageAccount:
    """The ledger's first stage: records that became documents, and by kind those that did not."""
    stage = StageAccount()
    for shard in accounts:
        stage.kept.add(shard["documents"], shard["bytes"])
        for kind, count in {**shard["not_documents"], **shard["quarantined"]}.items():
            stage.removed.setdefault(f"read.{kind}", Amount()).add(count, shard["lost_bytes"].get(kind, 0))
    stage.entered.add(stage.kept.documents, stage.kept.bytes)
    for amount in stage.removed.values():
        stage.entered.add(amount.documents, amount.bytes)
    return stage


def check_quarantine(accounts: list[dict[str, Any]], run: RunDir, limit: float) -> None:
    """Warn about unreadable records; raise UserError when they are more than the share `limit` of all."""
    bad: Counter[str] = sum((Counter(a["quarantined"]) for a in accounts), start=Counter())
    total = sum(a["documents"] + sum(a["not_documents"].values()) for a in accounts) + bad.total()
    if not bad:
        return
    first = next(a["shard"] for a in accounts if a["quarantined"])
    example = json.loads(storage.read_bytes(run.quarantine(first)).splitlines()[0])
    where = f"{example['file']}, " + (
        f"record {example['row']}" if example["row"] is not None else f"byte {example['byte_offset']}"
    )
    kinds = ", ".join(f"{kind} {count}" for kind, count in bad.most_common())
    message = (
        f"{bad.total()} of {total} records could not be read ({kinds}); they are in {run.path('quarantine')}. "
        f"The first: {where}: {example['error']}"
    )
    if bad.total() > limit * total:
        raise UserError(
            f"{message}\nThat is more than corpus.max_quarantined_fraction={limit:g}: mend the input, or raise the "
            "limit if this much loss is expected"
        )
    log.warning(message)
