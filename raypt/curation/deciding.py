"""Deciding on the tagged shards: cheap tasks that read attribute columns only, one artefact a shard."""

import functools
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt import storage
from raypt.artefact import Card, Identity, Output, Verify
from raypt.collection import Collection
from raypt.curation.base import Attributes
from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.distributions import Distributions, distributions, merge
from raypt.curation.ledger import curation_ledger
from raypt.curation.percentiles import TWENTIETHS
from raypt.curation.quality.threshold import QualityThreshold
from raypt.curation.settled import settled_columns, with_settled
from raypt.curation.tagging import tagged_uri
from raypt.ledger import Ledger
from raypt.run_dir import RunDir
from raypt.tasks import run_tasks, together

log = logging.getLogger("raypt")

FORMAT = 5
"""Raise it when the same attributes and thresholds lead to another decision, or account."""
SCORE_BINS = 40
NONE_NOW: Mapping[int, Card] = {}


@dataclass(frozen=True)
class DecideAtOnce:
    """Decides on shards in the task that tagged them (`raypt.curation.tagging.Decide`), where nothing has to be settled
    over the whole run first.
    """

    run_uri: str
    config: CurationConfig
    settled: dict[str, Any]
    """As of `DecideTask`."""

    def __call__(self, tagged: Mapping[int, tuple[Card, pa.Table]]) -> list[Card]:
        run = RunDir(self.run_uri)
        wanted = identities([card for card, _ in tagged.values()], self.config, self.settled)
        work = {
            shard: (identity, _maker(run, shard, self.config, self.settled, functools.partial(_as_it_is, attributes)))
            for identity, (shard, (_, attributes)) in zip(wanted, tagged.items(), strict=True)
        }
        return collection(run).build_together(work, pack_up_to=storage.LITTLE_BYTES)


def _as_it_is(attributes: pa.Table) -> pa.Table:
    return attributes


@dataclass(frozen=True)
class DecideTask:
    """One shard to decide on."""

    run_uri: str
    shard: int
    tagged_uri: str
    config: CurationConfig
    settled: dict[str, Any]
    """What was settled for stages once for the whole run, by name of the stage."""
    identity: Identity
    whole: bool = False
    """Whether the file is fetched by one request, though its text is not wanted."""

    def attributes(self) -> pa.Table:
        with storage.open_parquet(self.tagged_uri, whole=self.whole) as file:
            return file.read([c for c in file.schema.names if c != "text"])


def collection(run: RunDir) -> Collection:
    return Collection(run.uri, "work/decided", new=run.new)


def decided_uri(run: RunDir, shard: int, card: Card) -> str:
    """Where the decisions on a shard are read."""
    return card.uri(run.uri, run.relative(run.decided(shard)))


def decide_shards(tasks: Sequence[DecideTask]) -> list[Card]:
    """Keep or drop each document of some tagged shards of a run: writes (doc_key, reason, settled metrics by
    `<stage>.<metric>`) of each; account {ledger, quality_scores, quality_not_measured, labels, distributions,
    measured: reason -> documents that have what the rule looks at}."""
    run = RunDir(tasks[0].run_uri)
    work = {
        task.shard: (task.identity, _maker(run, task.shard, task.config, task.settled, task.attributes))
        for task in tasks
    }
    return collection(run).build_together(work, pack_up_to=storage.LITTLE_BYTES)


def _maker(
    run: RunDir, shard: int, config: CurationConfig, already: dict[str, Any], attributes: Callable[[], pa.Table]
) -> Callable[[Output], dict[str, Any]]:
    def maker(output: Output) -> dict[str, Any]:
        tagged = attributes()
        found = settled_columns(tagged, config, already)
        tagged = with_settled(tagged, found)
        settled = {name: found[name].combine_chunks() for name in found.column_names}
        reason = decide(tagged, config, already)
        # In one piece: the file must not depend on whether the attributes come from a file or from tagging.
        decided = pa.table({"doc_key": tagged["doc_key"].combine_chunks(), "reason": reason, **settled})
        output.write_parquet(run.relative(run.decided(shard)), decided)
        ledger = curation_ledger(tagged, reason, config)
        scores = {"quality_scores": _score_histogram(tagged), "quality_not_measured": _not_measured(tagged)}
        counts = {
            "labels": label_counts(tagged, reason, config),
            "distributions": distributions(tagged, reason, config, settled),
            "measured": {rule: n for stage in config.plan() for rule, n in stage.measured(tagged).items()},
        }
        return {"ledger": ledger.to_json(), **scores, **counts}

    return maker


def _say_what_looked_at_nothing(decided: Sequence[Card], documents: int) -> None:
    """Warn of the rules that passed every document of the run because none has the number, or label, they look at."""
    total: Counter[str] = Counter()
    for card in decided:
        total.update(card.account["measured"])
    idle = [rule for rule, measured in total.items() if not measured]
    if idle and documents:
        log.warning(
            "curation: not one of %d documents has what these rules look at, so they removed none: %s. Is there "
            "a model or a list for the text's language, does the source carry the column, does a stage's `when` hold?",
            documents,
            ", ".join(idle),
        )


def _score_histogram(tagged: pa.Table) -> list[int]:
    """Documents by quality score in SCORE_BINS equal bins of [0, 1]; empty without scores."""
    if "quality_score" not in tagged.column_names:
        return []
    scores = np.clip(tagged["quality_score"].to_numpy(), 0.0, 1.0)
    counts: list[int] = np.histogram(scores[np.isfinite(scores)], bins=SCORE_BINS, range=(0.0, 1.0))[0].tolist()
    return counts


def _not_measured(tagged: pa.Table) -> int:
    """Documents without a quality score, though there is a classifier."""
    return int(tagged["quality_score"].null_count) if "quality_score" in tagged.column_names else 0


LabelCounts = dict[str, dict[str, list[int]]]
"""Metric (`classify.topic`) -> label -> documents and bytes that were measured so, and those of them that are kept; a
percentile's label is its twentieth (`60-65`)."""


def label_counts(tagged: pa.Table, reason: pa.Array, config: CurationConfig) -> LabelCounts:
    """Of a decided table; what was not measured has the label ""."""
    out: LabelCounts = {}
    kept = pc.is_null(reason)
    size = tagged["text_bytes"].combine_chunks()
    for stage in config.plan():
        percentiles = stage.settings.percentile_metrics()
        for metric in (*stage.settings.label_metrics(), *percentiles):
            name = f"{stage.name}.{metric}"
            values = Attributes(tagged, stage.name).named(name)
            label = pc.fill_null(_twentieths(values) if metric in percentiles else values, "")
            columns = {"label": label, "bytes": size, "kept": kept.cast(pa.int64())}
            columns["kept_bytes"] = pc.multiply(columns["bytes"], columns["kept"])
            found = pa.table(columns).group_by("label")
            rows = found.aggregate([([], "count_all"), ("bytes", "sum"), ("kept", "sum"), ("kept_bytes", "sum")])
            counts = ("count_all", "bytes_sum", "kept_sum", "kept_bytes_sum")
            out[name] = {row["label"]: [row[c] for c in counts] for row in rows.to_pylist()}
    return out


def _twentieths(values: pa.Array) -> pa.Array:
    at = np.nan_to_num(values.to_numpy(zero_copy_only=False)) // 5
    return pa.array(TWENTIETHS).take(pa.array(at.astype(np.int64).clip(0, 19), mask=np.asarray(values.is_null())))


def labels_summarised(counts: LabelCounts) -> dict[str, dict[str, dict[str, int]]]:
    """For the summary: what each of the four counts is."""
    names = ("documents", "bytes", "kept_documents", "kept_bytes")
    return {m: {label: dict(zip(names, n, strict=True)) for label, n in of.items()} for m, of in counts.items()}


def _add_labels(total: LabelCounts, more: LabelCounts) -> None:
    for metric, by_label in more.items():
        into = total.setdefault(metric, {})
        for label, counts in by_label.items():
            into[label] = [a + b for a, b in zip(into.get(label, [0, 0, 0, 0]), counts, strict=True)]


def _said(value: Any) -> Any:
    """What was settled, as JSON; a long table of it says its hash."""
    if value is None:
        return None
    return value.identity() if hasattr(value, "identity") else asdict(value)


def identities(tagged: Sequence[Card], config: CurationConfig, settled: dict[str, Any]) -> list[Identity]:
    """Of each shard's decisions."""
    settings = {
        "curation": config.deciding_settings(),
        "settled": {name: _said(value) for name, value in settled.items()},
    }
    return [Identity("decided", FORMAT, {"tagged": card.content}, settings) for card in tagged]


def decide_all(
    run: RunDir,
    tagged: list[Card],
    config: CurationConfig,
    settled: dict[str, Any],
    verify: Verify,
    made_now: Mapping[int, Card] = NONE_NOW,
) -> tuple[list[Card], Ledger]:
    """Decide on every shard that is not decided on; all cards, and the merged ledger of the curation stages. Leaves
    the score histogram, the counts of labels and the distributions of numbers for the report. `made_now`: the cards of
    shards that were decided on when they were tagged, in this start.
    """
    wanted = identities(tagged, config, settled)
    cards = collection(run).survey(wanted, verify, made_now)
    todo = [s for s, card in enumerate(cards) if card is None]
    groups = together(todo, [card.account["bytes"] for card in tagged], run.uri)

    def whole(shard: int) -> bool:
        return tagged[shard].files[run.relative(run.tagged(shard))].size <= storage.LITTLE_BYTES

    tasks = [
        [DecideTask(run.uri, s, tagged_uri(run, s, tagged[s]), config, settled, wanted[s], whole(s)) for s in group]
        for group in groups
    ]
    made = itertools.chain.from_iterable(run_tasks(decide_shards, tasks, name="decide"))
    for shard, card in zip(todo, made, strict=True):
        cards[shard] = card.holding(wanted[shard])
    done = [card for card in cards if card is not None]
    collection(run).finish(done)
    ledger = Ledger()
    scores = np.zeros(SCORE_BINS, np.int64)
    labels: LabelCounts = {}
    numbers: Distributions = {}
    for card in done:
        _add_labels(labels, card.account["labels"])
        merge(numbers, card.account["distributions"])
        ledger.merge(Ledger.from_json(card.account["ledger"]))
        scores += np.array(card.account["quality_scores"] or np.zeros(SCORE_BINS), np.int64)
    ledger.check()
    _say_what_looked_at_nothing(done, sum(card.account["documents"] for card in tagged))
    unmeasured = sum(card.account["quality_not_measured"] for card in done)
    threshold: QualityThreshold | None = settled.get("quality")
    minimum = None if threshold is None else threshold.minimum
    asked = None if threshold is None else config.quality.threshold.percentile
    own = [] if threshold is None else sorted(threshold.minimum_by_language)
    found = {
        "histogram": scores.tolist(),
        "threshold": minimum,
        "percentile": asked,
        "languages": own,
        "not_measured": unmeasured,
    }
    storage.write_json(run.decisions, {"quality_scores": found, "labels": labels, "distributions": numbers})
    return done, ledger
