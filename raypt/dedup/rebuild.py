"""Recompute the components of everything in an index from its stored hashes: what one batch would find."""

from typing import Any

import numpy as np
import pyarrow as pa

from raypt import storage
from raypt.dedup.config import DedupConfig
from raypt.dedup.index import generation_file, read_generations
from raypt.dedup.pipeline import DedupResult, run_plan
from raypt.dedup.plan import Plan, PlannedShard, TaskRunner, choose_partitions, load_plan, power_of_two
from raypt.errors import UserError
from raypt.tasks import run_tasks


def _stored_attributes(item: tuple[str, int]) -> int:
    """Take the attributes of a shard of the index for those of a shard of the plan. Item: (plan URI, position)."""
    plan, position = load_plan(item[0]), item[1]
    done = plan.file("attributes", position, "parquet")
    if storage.exists(done):
        return position
    first = 0
    for generation in plan.generations:
        if position < first + len(generation.shards):
            break
        first += len(generation.shards)
    attributes = storage.read_parquet(generation_file(plan, generation.name, "attributes", position - first, "parquet"))
    keys = (attributes["doc_key"].to_numpy() & 0xFFFFFFFF) | (position << 32)
    attributes = attributes.set_column(0, "doc_key", pa.array(keys))
    storage.write_parquet(plan.file("contaminated", position, "parquet"), attributes.select(["doc_key"]).slice(0, 0))
    storage.write_parquet(done, attributes)
    return position


def rebuild_index(
    config: DedupConfig,
    work_uri: str,
    out_uri: str,
    *,
    source_priority: dict[str, int] | None = None,
    runner: TaskRunner = run_tasks,
) -> DedupResult:
    """Deduplicate all documents of the index at `config.index` together, without reading text.

    A document's doc_key is here (shard of the index << 32 | row in its shard); `out_uri/shards.json` lists, in the
    order of the shards of the index, the generation and the manifest's shard they came from. Writes what
    `deduplicate` writes. Sentences and evaluation sets need text: they take no part. UserError if there is no index.
    """
    if config.index is None:
        raise UserError("dedup.index: name the index to rebuild from")
    if not (generations := read_generations(config.index, config)):
        raise UserError(f"dedup.index: {config.index}: there is no index to rebuild from")
    shards: list[PlannedShard] = []
    origins: list[dict[str, Any]] = []
    for generation in generations:
        for position, index in enumerate(generation.shards):
            uri = storage.join(config.index, generation.name, "attributes", f"{position:05d}.parquet")
            rows = storage.read_parquet(uri, ["doc_key"]).num_rows
            shards.append(
                PlannedShard(
                    index=len(shards), docs_uri=uri, decisions_uri=None, rows=rows, stamp=f"{generation.name}/{index}"
                )
            )
            origins.append({"generation": generation.name, "shard": index})
    total = int(np.sum([s.rows for s in shards]))
    partitions = max([power_of_two(choose_partitions(config, total)), *(g.partitions for g in generations)])
    off: dict[str, Any] = {"enabled": False}
    plan = Plan(
        config=config.model_copy(
            update={
                "sentences": config.sentences.model_copy(update=off),
                "contamination": config.contamination.model_copy(update={"paths": ()}),
                "measure_s_curve": False,
            }
        ),
        work_uri=storage.absolute(work_uri),
        source_priority=source_priority or {},
        partitions=partitions,
        generations=tuple(generations),
        rebuild=True,
        shards=shards,
    )
    storage.write_json(storage.join(out_uri, "shards.json"), origins)
    return run_plan(plan, storage.absolute(out_uri), _stored_attributes, runner)
