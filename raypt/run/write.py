"""The end of the data side: curated documents, and for every other document where and why it went."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from raypt import storage, written
from raypt.artefact import Card, Identity, Output, Verify
from raypt.collection import Collection
from raypt.corpus.config import DEDUP_COLUMN
from raypt.curation.deciding import decided_uri
from raypt.curation.settled import with_settled
from raypt.curation.tagging import tagged_uri
from raypt.dedup.apply import CLUSTER_SIZE, apply_shard, stands_for
from raypt.dedup.finish import shard_lists
from raypt.run.removed_examples import MOST_PARTS, Part, keep, spread
from raypt.run_dir import RunDir
from raypt.tasks import run_tasks, together

FORMAT = 3

Languages = dict[str, dict[str, list[int]]]
"""Source -> language ("": not told) -> documents and bytes."""

REMOVED_SCHEMA = pa.schema(
    [
        pa.field("doc_key", pa.int64(), nullable=False),
        pa.field("id", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class CuratedTask:
    """One shard."""

    run_uri: str
    shard: int
    tagged_uri: str
    decided_uri: str
    identity: Identity
    lists: Mapping[str, str] | None = None
    """Where deduplication left its lists (removed, edits, sizes), of those that the shard has; None if it is off."""
    shown: bool = False
    """Whether it is one of those whose removed documents the report shows."""


Measure: TypeAlias = Callable[[Mapping[int, tuple[str, Card]]], list[Card]]
"""Measures parts by number, from the URI and the card of each, in the task that wrote them: they are at hand there.
Returns the cards of what it made, in the same order."""


@dataclass(frozen=True)
class Written:
    """What was written."""

    cards: list[Card]
    """Of the curated parts, in shard order."""
    measured: dict[int, Card]
    """By shard, of what was measured at once (`Measure`)."""


def collection(run: RunDir) -> Collection:
    return Collection(run.uri, "work/curated", new=run.new)


def _list(task: CuratedTask, kind: str) -> pa.Table | None:
    """What deduplication left of this kind, if anything."""
    uri = (task.lists or {}).get(kind)
    return None if uri is None else storage.read_parquet(uri)


def _removed(docs: pa.Table, reason: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The rows of `docs` that have a reason, as rows of removed/."""
    gone = docs.select(["doc_key", "id", "source"]).append_column("reason", reason).filter(pc.is_valid(reason))
    stage = pc.list_element(pc.split_pattern(gone["reason"], ".", max_splits=1), 0)
    return gone.append_column("stage", stage).select(REMOVED_SCHEMA.names).cast(REMOVED_SCHEMA)


def _schema(tagged: pa.Schema, settled: pa.Schema, task: CuratedTask) -> pa.Schema:
    """Of the curated documents."""
    tagged = with_settled(tagged.empty_table(), settled.empty_table()).schema
    if task.lists is None:
        return tagged
    return tagged.append(pa.field(DEDUP_COLUMN, pa.struct([CLUSTER_SIZE])))


def _count_languages(into: Languages, docs: pa.Table) -> None:
    grouped = docs.group_by(["source", "lang"]).aggregate([("text_bytes", "sum"), ([], "count_all")])
    for row in grouped.sort_by([("source", "ascending"), ("lang", "ascending")]).to_pylist():
        total = into.setdefault(row["source"], {}).setdefault(row["lang"] or "", [0, 0])
        total[0] += row["count_all"]
        total[1] += row["text_bytes_sum"] or 0


@dataclass(frozen=True)
class _Write:
    """Writes `curated/part-NNNNN.parquet` and `removed/part-NNNNN.parquet` of some shards of a run; the account counts
    what was kept: {documents, bytes, languages: {source: {lang: [documents, bytes]}}}. Then measures them, if it is
    told how.
    """

    measure: Measure | None

    def __call__(self, tasks: Sequence[CuratedTask]) -> tuple[list[Card], list[Card], dict[int, Part]]:
        run = RunDir(tasks[0].run_uri)
        shown = {task.shard: Part(task.shard) for task in tasks if task.shown}
        work = {task.shard: (task.identity, _maker(run, task, shown.get(task.shard))) for task in tasks}
        if self.measure is None:
            return collection(run).build_together(work), [], shown
        with written.remembering({run.curated(shard) for shard in work}):
            cards = collection(run).build_together(work)
            parts = {shard: (run.curated(shard), card) for shard, card in zip(work, cards, strict=True)}
            return cards, self.measure(parts), shown


def _maker(run: RunDir, task: CuratedTask, shown: Part | None) -> Callable[[Output], dict[str, Any]]:
    def maker(output: Output) -> dict[str, Any]:
        decided = storage.read_parquet(task.decided_uri)
        duplicates, edits, sizes = (_list(task, kind) for kind in ("removed", "edits", "sizes"))
        settled = decided.drop_columns(["doc_key", "reason"])
        documents = nbytes = row = 0
        languages: Languages = {}
        gone = [REMOVED_SCHEMA.empty_table()]
        with (
            output.open(run.relative(run.curated(task.shard))) as f,
            storage.open_parquet(task.tagged_uri, whole=True) as source,
            storage.parquet_writer(f, _schema(source.schema, settled.schema, task)) as writer,
        ):
            for group in range(source.num_row_groups):
                docs = source.read_row_group(group)
                reason = decided["reason"].slice(row, docs.num_rows)
                docs = with_settled(docs, settled.slice(row, docs.num_rows))
                row += docs.num_rows
                gone.append(_removed(docs, reason))
                if shown is not None:
                    shown.add(docs, reason, rows=True)
                kept = docs.filter(pc.is_null(reason))
                if duplicates is not None:
                    kept_before = kept
                    kept, reason = apply_shard(kept_before, duplicates, edits)
                    gone.append(_removed(kept_before, reason))
                    if shown is not None:
                        shown.add(kept_before, reason, rows=True)
                size = pc.binary_length(kept["text"]).cast(pa.int64())
                kept = kept.set_column(kept.column_names.index("text_bytes"), "text_bytes", size)
                if task.lists is not None:
                    kept = kept.append_column(DEDUP_COLUMN, stands_for(kept, sizes))
                writer.write_table(kept)
                documents += kept.num_rows
                nbytes += int(pc.sum(size).as_py() or 0)
                _count_languages(languages, kept)
        output.write_parquet(run.relative(run.removed(task.shard)), pa.concat_tables(gone).sort_by("doc_key"))
        return {"documents": documents, "bytes": nbytes, "languages": languages}

    return maker


def write_curated(
    run: RunDir,
    tagged: list[Card],
    decided: list[Card],
    dedup: tuple[str, str] | None,
    verify: Verify,
    measure: Measure | None = None,
) -> Written:
    """Write the shards that are not there, and measure those, if it is told how. `dedup`: where deduplication left its
    lists, and the key of what it did.
    """
    uri, key = dedup or (None, "off")
    inputs = [{"tagged": t.content, "decided": d.content, "dedup": key} for t, d in zip(tagged, decided, strict=True)]
    wanted = [Identity("curated", FORMAT, i) for i in inputs]
    cards = collection(run).survey(wanted, verify)
    todo = [s for s, card in enumerate(cards) if card is None]
    lists = shard_lists(uri) if uri and todo else {}
    assert uri is None or set(todo) <= lists.keys(), "each shard has a list of removed documents"
    looked_at = set(spread(range(len(wanted)), MOST_PARTS))
    tasks = [
        [
            CuratedTask(
                run.uri,
                s,
                tagged_uri(run, s, tagged[s]),
                decided_uri(run, s, decided[s]),
                wanted[s],
                lists.get(s),
                s in looked_at,
            )
            for s in group
        ]
        for group in together(todo, [card.account["bytes"] for card in tagged], run.uri)
    ]
    measured: dict[int, Card] = {}
    parts: dict[int, Part] = {}
    results = run_tasks(_Write(measure), tasks, name="write curated")
    for group, (made, measures, shown) in zip(tasks, results, strict=True):
        parts |= shown
        for task, card in zip(group, made, strict=True):
            cards[task.shard] = card.holding(wanted[task.shard])
        measured |= {task.shard: card for task, card in zip(group, measures, strict=False)}
    done = [card for card in cards if card is not None]
    collection(run).finish(done)
    keep(run, wanted, parts)
    return Written(done, measured)
