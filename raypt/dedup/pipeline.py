"""The whole deduplication: passes over files, run as Ray tasks if Ray is running and as a loop if not."""

import functools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raypt import storage
from raypt.artefact import Card, Identity, Output, Verify, make
from raypt.collection import Collection
from raypt.dedup.config import DedupConfig
from raypt.dedup.contamination import FOUND
from raypt.dedup.elect import CLUSTERS
from raypt.dedup.finish import finish_group, list_identity, lists
from raypt.dedup.index import add_generation, before, generation_name, read_generations
from raypt.dedup.ledger import Accounts, merge
from raypt.dedup.passes import choose_partitions, enabled_passes
from raypt.dedup.plan import (
    BUSY_FAR_AWAY,
    FAR_AWAY,
    FORMAT,
    MORE_FAR_AWAY,
    PASSES,
    DedupShard,
    Generation,
    Job,
    Plan,
    PlannedShard,
    TaskRunner,
    fingerprint,
    group_bounds,
    inspect,
    power_of_two,
)
from raypt.dedup.report import build_report, describe_clusters
from raypt.errors import UserError
from raypt.ledger import Ledger, StageAccount
from raypt.tasks import run_tasks

log = logging.getLogger("raypt")

REPORT_FILE = "report.json"
CARD_FILE = "dedup.card.json"
TABLES = {
    "clusters": ("clusters-removed", CLUSTERS, "clusters.parquet"),
    "contamination": ("contaminated", FOUND, "contamination.parquet"),
}
"""By stage: files by group that become one table of the output, their columns, and its name."""


@dataclass(frozen=True)
class DedupResult:
    """What deduplication did."""

    account: StageAccount
    """Documents and bytes compared, kept, removed and cut, by reason."""
    report: dict[str, Any]
    """What `report.json` holds."""
    key: str = ""
    """Fingerprint of everything that decided the result."""

    @property
    def documents(self) -> int:
        """Documents compared."""
        return self.account.entered.documents

    @property
    def removed(self) -> dict[str, int]:
        """Removed documents by reason."""
        return {reason: amount.documents for reason, amount in self.account.removed.items()}

    @classmethod
    def of(cls, report: dict[str, Any], key: str) -> "DedupResult":
        return cls(Ledger.from_json({"dedup": report["ledger"]}).stages["dedup"], report, key)


def deduplicate(
    shards: Sequence[DedupShard | PlannedShard],
    config: DedupConfig,
    work_uri: str,
    out_uri: str,
    *,
    source_priority: dict[str, int] | None = None,
    runner: TaskRunner = run_tasks,
    verify: Verify = "sizes",
    new: bool = False,
) -> DedupResult:
    """Find the duplicates among the documents of `shards` that no earlier stage removed.

    Writes `work_uri/removed/shard-NNNNN.parquet` (doc_key, reason, cluster_id) for every shard,
    `out_uri/clusters.parquet` (doc_key, id, cluster_id, kept) and `out_uri/report.json`; with evaluation sets
    `out_uri/contamination.parquet`, with passes that cut passages `work_uri/edits/shard-NNNNN.parquet`; for a shard
    with documents that stand for others `work_uri/sizes/shard-NNNNN.parquet` (doc_key, cluster_size). A source of
    higher priority keeps its copy (0 where none is given); with `config.index` what earlier runs left there wins over
    all. The result depends on nothing but documents, configuration and priorities; a run that was interrupted goes on
    at the files that are missing. Raises UserError for unreadable input, or when more than
    `config.max_removed_fraction` of the documents would go. `runner` maps the passes over their files. `new`: nothing
    is there.
    """
    ordered = sorted(shards, key=lambda s: s.index)
    if not ordered or len({s.index for s in ordered}) < len(ordered):
        raise ValueError(f"shards need an index each: {[s.index for s in ordered]}")
    work_uri, out_uri = storage.absolute(work_uri), storage.absolute(out_uri)
    planned = inspect(ordered, runner)
    generation = generation_name(config, [(s.index, s.stamp) for s in planned])
    generations: list[Generation] = []
    if config.index is not None:
        config = config.model_copy(update={"index": storage.absolute(config.index)})
        assert config.index is not None
        generations = before(read_generations(config.index, config), generation)
    plan = make_plan(planned, config, work_uri, source_priority or {}, generations, generation=generation)
    return run_plan(plan, planned, out_uri, runner, verify, new=new)


def make_plan(
    shards: Sequence[PlannedShard],
    config: DedupConfig,
    work_uri: str,
    source_priority: dict[str, int],
    generations: Sequence[Generation],
    *,
    generation: str = "",
    rebuild: bool = False,
) -> Plan:
    """The plan of a run over `shards` (by index), or of a rebuild over those of an index."""
    partitions = choose_partitions(config, sum(s.rows for s in shards), sum(s.text_bytes for s in shards))
    if config.index is not None:
        partitions = max([power_of_two(partitions), *(g.partitions for g in generations)])
    passes = enabled_passes(config, text=not rebuild)
    identities: dict[str, Any] = {}
    for p in passes:
        identities |= p.identity(config)
    return Plan(
        config=config,
        work_uri=work_uri,
        source_priority=source_priority,
        partitions=partitions,
        passes=identities,
        verdicts=tuple(p.stage for p in passes),
        cuts=tuple(p.stage for p in passes if p.cuts(config)),
        generations=tuple(generations),
        generation=generation,
        rebuild=rebuild,
        shards=[s.index for s in shards],
        bounds=_bounds([s.text_bytes for s in shards], config.task_bytes, work_uri),
        stamps=fingerprint([s.stamp for s in shards]),
    )


def _bounds(text_bytes: Sequence[int], task_bytes: int, uri: str) -> list[int]:
    """Of the groups, which are larger where requests cost."""
    if storage.is_local(uri):
        return group_bounds(text_bytes, task_bytes)
    return group_bounds(text_bytes, task_bytes, FAR_AWAY, BUSY_FAR_AWAY, MORE_FAR_AWAY)


def run_plan(
    plan: Plan,
    shards: Sequence[PlannedShard],
    out_uri: str,
    runner: TaskRunner = run_tasks,
    verify: Verify = "sizes",
    *,
    new: bool = False,
) -> DedupResult:
    """All passes of a plan, and the outputs; or what this very plan left before, if it is whole. `new`: nothing is
    there.
    """
    identity = Identity("deduplication", FORMAT, {"plan": plan.key})
    wanted = [list_identity(plan, group) for group in range(plan.groups)]
    collection = replace(lists(plan), new=new)
    finished = collection.survey(wanted, verify)
    if None in finished and not new:
        storage.remove_file(storage.join(out_uri, CARD_FILE))
    if not any(finished) and not new:  # what is there, if anything, another plan decided
        for kind in ("removed", "edits", "sizes"):
            storage.remove(storage.join(plan.work_uri, kind))
    maker = functools.partial(_build, plan, collection, shards, runner, finished)
    card = make(identity, out_uri, CARD_FILE, maker, verify=verify, new=new)
    if not plan.config.keep_intermediate:
        _remove_intermediate(plan, new=new)
    result = DedupResult.of(card.account, plan.key)
    _check_removed_fraction(plan.config, result.report)
    log.info("dedup: %d of %d documents removed: %s", sum(result.removed.values()), result.documents, result.removed)
    return result


def _build(
    plan: Plan,
    collection: Collection,
    shards: Sequence[PlannedShard],
    runner: TaskRunner,
    finished: Sequence[Card | None],
    output: Output,
) -> dict[str, Any]:
    """Run the passes and write the outputs; the report. `finished`: the lists that are there, by group."""
    job = Job(plan, plan.uri, runner, plan.save(shards, new=collection.new))
    parts = [p.run(job) for p in enabled_passes(plan.config, text=not plan.rebuild)]
    left = [group for group, card in enumerate(finished) if card is None]
    made: Iterator[Card] = iter(job.run(finish_group, [(job.uri, group) for group in left], "finish"))
    cards = [card or next(made) for card in finished]
    accounts: Accounts = {}
    for card in cards:
        merge(accounts, Ledger.from_json(card.account).stages)
    report = build_report(plan, accounts, parts)
    _check_removed_fraction(plan.config, report)
    collection.finish(cards)
    for stage, (_, _, name) in TABLES.items():
        if stage in plan.verdicts:
            _join_tables(plan, stage, output)
        elif not collection.new:
            storage.remove_file(storage.join(output.root, name))
    if plan.config.index is not None and not plan.rebuild:
        add_generation(job)
    output.write_json(REPORT_FILE, report)
    return report


def _remove_intermediate(plan: Plan, *, new: bool) -> None:
    """`new`: that of no other plan is there."""
    own = plan.uri.rpartition("/")[0]
    others = [] if new else storage.listdir(plan.work_uri)
    for uri in {own, *(storage.join(plan.work_uri, name) for name in others if name.startswith(PASSES))}:
        storage.remove(uri)


def _check_removed_fraction(config: DedupConfig, report: dict[str, Any]) -> None:
    limit, fraction = config.max_removed_fraction, report["removed_fraction"]
    if limit is not None and fraction > limit:
        raise UserError(
            f"deduplication would remove {fraction:.1%} of the documents, above dedup.max_removed_fraction={limit}. "
            f"Look at the biggest clusters and raise the limit if they are right:\n{describe_clusters(report)}"
        )


def _join_tables(plan: Plan, stage: str, output: Output) -> None:
    """One table of the files of a stage, a row group a group of shards, in doc_key order."""
    kind, schema, name = TABLES[stage]
    with output.open(name) as f, storage.parquet_writer(f, schema) as writer:
        files = [plan.file(kind, group, "parquet") for group in range(plan.groups)]
        for table in storage.in_order(lambda uri: storage.read_parquet(uri, schema.names, whole=True), files):
            if table.num_rows:
                writer.write_table(table)
