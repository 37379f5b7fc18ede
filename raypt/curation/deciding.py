"""Deciding on the tagged shards: cheap tasks that read attribute columns only, one artefact a shard."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raypt import storage
from raypt.artefact import Card, Collection, Identity, Output, Verify
from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.ledger import curation_ledger
from raypt.curation.quality.threshold import QualityThreshold
from raypt.ledger import Ledger
from raypt.run_dir import RunDir
from raypt.tasks import run_tasks

FORMAT = 2
"""Raise it when the same attributes and thresholds lead to another decision."""
SCORE_BINS = 40


@dataclass(frozen=True)
class DecideTask:
    """One shard to decide on."""

    run_uri: str
    shard: int
    config: CurationConfig
    settled: dict[str, Any]
    """What was settled for stages once for the whole run, by name of the stage."""
    identity: Identity


def collection(run: RunDir) -> Collection:
    return Collection(run.uri, "work/decided")


def decide_shard(task: DecideTask) -> Card:
    """Keep or drop each document of a tagged shard: writes (doc_key, reason); account {ledger, quality_scores}."""
    run = RunDir(task.run_uri)

    def maker(output: Output) -> dict[str, Any]:
        with storage.open_parquet(run.tagged(task.shard)) as file:
            tagged = file.read([c for c in file.schema.names if c != "text"])
        reason = decide(tagged, task.config, task.settled)
        decided = pa.table({"doc_key": tagged["doc_key"], "reason": reason})
        output.write_parquet(run.relative(run.decided(task.shard)), decided)
        ledger = curation_ledger(tagged, reason, task.config)
        return {"ledger": ledger.to_json(), "quality_scores": _score_histogram(tagged)}

    return collection(run).build(task.shard, task.identity, maker)


def _score_histogram(tagged: pa.Table) -> list[int]:
    """Documents by quality score in SCORE_BINS equal bins of [0, 1]; empty without scores."""
    if "quality_score" not in tagged.column_names:
        return []
    scores = np.clip(tagged["quality_score"].to_numpy(), 0.0, 1.0)
    counts: list[int] = np.histogram(scores[np.isfinite(scores)], bins=SCORE_BINS, range=(0.0, 1.0))[0].tolist()
    return counts


def decide_all(
    run: RunDir, tagged: list[Card], config: CurationConfig, settled: dict[str, Any], verify: Verify
) -> tuple[list[Card], Ledger]:
    """Decide on every shard that is not decided on; all cards, and the merged ledger of the curation stages. Leaves
    the score histogram for the report.
    """
    settings = {
        "curation": config.deciding_settings(),
        "settled": {name: None if value is None else asdict(value) for name, value in settled.items()},
    }
    wanted = [Identity("decided", FORMAT, {"tagged": card.content}, settings) for card in tagged]
    cards = collection(run).survey(wanted, verify)
    todo = [s for s, card in enumerate(cards) if card is None]
    tasks = [DecideTask(run.uri, s, config, settled, wanted[s]) for s in todo]
    for shard, card in zip(todo, run_tasks(decide_shard, tasks, name="decide"), strict=True):
        cards[shard] = card
    done = [card for card in cards if card is not None]
    collection(run).finish(done)
    ledger = Ledger()
    scores = np.zeros(SCORE_BINS, np.int64)
    for card in done:
        ledger.merge(Ledger.from_json(card.account["ledger"]))
        scores += np.array(card.account["quality_scores"] or np.zeros(SCORE_BINS), np.int64)
    ledger.check()
    threshold: QualityThreshold | None = settled.get("quality")
    minimum = None if threshold is None else threshold.minimum
    storage.write_json(run.quality_scores, {"histogram": scores.tolist(), "threshold": minimum})
    return done, ledger
