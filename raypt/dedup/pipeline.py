"""The whole deduplication: file passes, run as Ray tasks if Ray is running and as a loop if not."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raypt import storage
from raypt.dedup.config import DedupConfig
from raypt.dedup.contamination import FOUND, contamination_report
from raypt.dedup.elect import ClusterSummary, elect_partition, join_members
from raypt.dedup.empirical import measure_curve
from raypt.dedup.finish import CLUSTERS, finish_shard
from raypt.dedup.graph import connect
from raypt.dedup.index import add_generation, before, generation_name, read_generations
from raypt.dedup.ledger import DedupAccount
from raypt.dedup.plan import (
    PASSES,
    DedupShard,
    Plan,
    TaskRunner,
    choose_partitions,
    file_stamp,
    fingerprint,
    inspect_shard,
    power_of_two,
)
from raypt.dedup.report import build_report, describe_clusters
from raypt.dedup.samples import evaluation_files, read_samples
from raypt.dedup.signing import sign_shard
from raypt.dedup.spans import find_repeats, hash_shard_spans
from raypt.errors import UserError
from raypt.tasks import run_tasks

log = logging.getLogger("raypt")

CLUSTERS_FILE, REPORT_FILE, CONTAMINATION_FILE = "clusters.parquet", "report.json", "contamination.parquet"


@dataclass(frozen=True)
class DedupResult:
    """What deduplication did."""

    documents: int
    """Documents compared."""
    removed: dict[str, int]
    """Removed documents by reason."""
    ledger: dict[str, Any]
    """As DedupAccount.to_json: in, kept, removed and edited by reason, each in documents and bytes."""
    report: dict[str, Any]
    """What `report.json` holds."""
    key: str = ""
    """Fingerprint of everything that decided the result."""


def deduplicate(
    shards: Sequence[DedupShard],
    config: DedupConfig,
    work_uri: str,
    out_uri: str,
    *,
    source_priority: dict[str, int] | None = None,
    runner: TaskRunner = run_tasks,
) -> DedupResult:
    """Find the duplicates among the documents of `shards` that no earlier stage removed.

    Writes `work_uri/removed/shard-NNNNN.parquet` (doc_key, reason, cluster_id) for every shard,
    `out_uri/clusters.parquet` (doc_key, id, cluster_id, kept) and `out_uri/report.json`; with evaluation sets
    `out_uri/contamination.parquet`, with repeated passages `work_uri/edits/shard-NNNNN.parquet`. A source of higher
    priority keeps its copy (0 where none is given); with `config.index` what earlier runs left there wins over all.
    The result depends on nothing but documents, configuration and priorities; a run that was interrupted goes on at
    the files that are missing. Raises UserError for unreadable input, or when more than `config.max_removed_fraction`
    of the documents would go. `runner` maps the passes over their files.
    """
    ordered = sorted(shards, key=lambda s: s.index)
    if not ordered or len({s.index for s in ordered}) < len(ordered):
        raise ValueError(f"shards need an index each: {[s.index for s in ordered]}")
    work_uri, out_uri = storage.absolute(work_uri), storage.absolute(out_uri)
    planned = runner(inspect_shard, ordered, name="dedup: inspect")
    partitions = choose_partitions(config, sum(s.rows for s in planned))
    evaluation = [file_stamp(uri) for uri in evaluation_files(config.contamination)]
    generation = generation_name(config, [(s.index, s.stamp) for s in planned])
    generations = []
    if config.index is not None:
        index_uri = storage.absolute(config.index)
        config = config.model_copy(update={"index": index_uri})
        generations = before(read_generations(index_uri, config), generation)
        partitions = max([power_of_two(partitions), *(g.partitions for g in generations)])
    plan = Plan(
        config=config,
        work_uri=work_uri,
        source_priority=source_priority or {},
        partitions=partitions,
        evaluation=fingerprint(evaluation) if evaluation else None,
        generations=tuple(generations),
        generation=generation,
        shards=planned,
    )
    return run_plan(plan, out_uri, sign_shard, runner)


def run_plan(
    plan: Plan, out_uri: str, first_pass: Callable[[tuple[str, int]], int], runner: TaskRunner = run_tasks
) -> DedupResult:
    """All passes of a plan, from `first_pass` over its shards (which writes attributes and hashes) to the outputs."""
    done = _finished(plan, out_uri)
    if done is not None:
        return done
    plan_uri = plan.save()
    report = _run_passes(plan, plan_uri, first_pass, runner)
    _check_removed_fraction(plan.config, report)
    _join_tables(plan, "clusters", CLUSTERS, storage.join(out_uri, CLUSTERS_FILE))
    if plan.evaluation:
        _join_tables(plan, "contaminated", FOUND, storage.join(out_uri, CONTAMINATION_FILE))
    if plan.config.index is not None and not plan.rebuild:
        add_generation(plan, plan_uri, runner)
    storage.write_json(storage.join(out_uri, REPORT_FILE), report)
    storage.write_json(_marker(plan), {"key": plan.key, "report": report})
    if not plan.config.keep_intermediate:
        for name in storage.listdir(plan.work_uri):
            if name.startswith(PASSES):
                storage.remove(storage.join(plan.work_uri, name))
    result = _result(report, plan.key)
    log.info("dedup: %d of %d documents removed: %s", sum(result.removed.values()), result.documents, result.removed)
    return result


def _run_passes(
    plan: Plan, plan_uri: str, first_pass: Callable[[tuple[str, int]], int], runner: TaskRunner
) -> dict[str, Any]:
    """All passes; the report."""
    shards = [(plan_uri, position) for position in range(len(plan.shards))]
    partitions = [(plan_uri, partition) for partition in range(plan.partitions)]
    if plan.evaluation and not storage.exists(plan.samples_uri):
        storage.write_parquet(plan.samples_uri, read_samples(plan.config.contamination))
    runner(first_pass, shards, name="dedup: sign")
    connect(plan, plan_uri, runner)
    runner(join_members, shards, name="dedup: join")
    summary, ledger = ClusterSummary(), DedupAccount()
    for part in runner(elect_partition, partitions, name="dedup: elect"):
        summary.add(part)
    if plan.config.sentences.enabled:
        runner(hash_shard_spans, shards, name="dedup: spans")
        runner(find_repeats, partitions, name="dedup: repeats")
    for shard_ledger in runner(finish_shard, shards, name="dedup: finish"):
        ledger.add(shard_ledger)
    curve = []
    if plan.config.fuzzy.enabled and plan.config.measure_s_curve:
        curve = measure_curve(plan, plan_uri, [keys for _, keys in summary.sample], runner)
    report = build_report(plan, summary, ledger, curve)
    if plan.evaluation:
        files = [plan.file("contaminated", position, "parquet") for position in range(len(plan.shards))]
        found = pa.concat_tables([storage.read_parquet(uri) for uri in files])
        samples = storage.read_parquet(plan.samples_uri)
        report["contamination"] = contamination_report(samples, found, plan.config.contamination)
    return report


def _result(report: dict[str, Any], key: str) -> DedupResult:
    ledger = report["ledger"]
    removed = {reason: tally["documents"] for reason, tally in ledger["removed"].items()}
    return DedupResult(ledger["in"]["documents"], removed, ledger, report, key)


def _marker(plan: Plan) -> str:
    return storage.join(plan.work_uri, "result.json")


def _finished(plan: Plan, out_uri: str) -> DedupResult | None:
    """The result, if this very plan was finished before. What another plan left under the same names is deleted."""
    outputs = [storage.join(out_uri, CLUSTERS_FILE), storage.join(out_uri, REPORT_FILE)]
    log_of_contamination = storage.join(out_uri, CONTAMINATION_FILE)
    found = storage.read_json(_marker(plan)) if storage.exists(_marker(plan)) else {}
    if found.get("key") != plan.key:
        for stale in (
            *(storage.join(plan.work_uri, kind) for kind in ("removed", "edits")),
            *outputs,
            log_of_contamination,
        ):
            storage.remove(stale)
        storage.write_json(_marker(plan), {"key": plan.key})
        return None
    files = outputs + [plan.removed(shard) for shard in plan.shards]
    if "report" in found and all(storage.exists(uri) for uri in files):
        _check_removed_fraction(plan.config, found["report"])
        return _result(found["report"], plan.key)
    return None


def _check_removed_fraction(config: DedupConfig, report: dict[str, Any]) -> None:
    limit, fraction = config.max_removed_fraction, report["removed_fraction"]
    if limit is not None and fraction > limit:
        raise UserError(
            f"deduplication would remove {fraction:.1%} of the documents, above dedup.max_removed_fraction={limit}. "
            f"Look at the biggest clusters and raise the limit if they are right:\n{describe_clusters(report)}"
        )


def _join_tables(plan: Plan, kind: str, schema: pa.Schema, uri: str) -> None:
    """One table of the files of a kind, a row group a shard, in doc_key order."""
    with storage.atomic_write(uri) as f, pq.ParquetWriter(f, schema, compression="zstd") as writer:
        for position in range(len(plan.shards)):
            table = storage.read_parquet(plan.file(kind, position, "parquet"))
            if table.num_rows:
                writer.write_table(table)
