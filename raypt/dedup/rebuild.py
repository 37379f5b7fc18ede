"""Recompute the decisions about everything in an index from its stored hashes: what one batch would find."""

from raypt import storage
from raypt.dedup.config import DedupConfig
from raypt.dedup.index import read_generations
from raypt.dedup.pipeline import DedupResult, make_plan, run_plan
from raypt.dedup.plan import Generation, PlannedShard, TaskRunner
from raypt.errors import UserError
from raypt.tasks import run_tasks


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
    `deduplicate` writes. Passes that need text take no part. UserError if there is no index.
    """
    generations = generations_of(config)
    assert config.index is not None, "or there were no generations"
    config = config.model_copy(update={"index": storage.absolute(config.index), "measure_s_curve": False})
    assert config.index is not None
    shards = _shards(config.index, generations)
    out_uri = storage.absolute(out_uri)
    origins = [{"generation": g.name, "shard": index} for g in generations for index in g.shards]
    storage.write_json(storage.join(out_uri, "shards.json"), origins)
    plan = make_plan(shards, config, storage.absolute(work_uri), source_priority or {}, generations, rebuild=True)
    return run_plan(plan, shards, out_uri, runner)


def generations_of(config: DedupConfig) -> list[Generation]:
    """What earlier runs left in the index of a configuration.

    Raises:
        UserError: it names none, or one that is not there, or one of other parameters.
    """
    if config.index is None:
        raise UserError("dedup.index: name the index to rebuild from")
    uri = storage.absolute(config.index)
    if not (generations := read_generations(uri, config)):
        raise UserError(f"dedup.index: {uri}: there is no index to rebuild from")
    return generations


def _shards(index_uri: str, generations: list[Generation]) -> list[PlannedShard]:
    """The shards of an index, numbered through all generations. Its documents are counted by generation."""
    shards: list[PlannedShard] = []
    for generation in generations:
        rows = _documents(index_uri, generation)
        for i, number in enumerate(generation.shards):
            shards.append(
                PlannedShard(
                    index=len(shards),
                    docs_uri="",
                    decisions_uri=None,
                    rows=rows if i == 0 else 0,
                    text_bytes=0,
                    stamp=f"{generation.name}/{number}",
                )
            )
    return shards


def _documents(index_uri: str, generation: Generation) -> int:
    total = 0
    for group in range(len(generation.bounds) - 1):
        with storage.open_parquet(
            storage.join(index_uri, generation.name, "attributes", f"{group:05d}.parquet")
        ) as file:
            total += file.num_rows
    return total
