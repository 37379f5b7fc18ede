"""The index: the hashes of documents that earlier runs deduplicated, which later runs compare against without their
text.

`index.json` names the hash parameters and the generations, one a run. A generation holds, for each of its partitions,
the band rows (hash, key) and the text hashes (high, low, key) sorted by hash, and the attributes of its documents.
The number of partitions is a power of two, so that a run of more partitions finds the rows of one of its own in one
slice.

In the index a document's key is negative: ~(shard of the index << 32 | row), where shards are numbered through all
generations. So it is smaller than every doc_key: a component that holds a document of the index is named by one, and
nothing new in it is kept.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from raypt import storage
from raypt.dedup.config import DedupConfig
from raypt.dedup.exchange import Layout, column, read_partition, write_partitioned
from raypt.dedup.keys import Keyed, indexed_keys, key_makers, read_keys
from raypt.dedup.plan import Generation, Job, Plan, fingerprint, hash_parameters, load_plan
from raypt.errors import UserError


def _index_file(index_uri: str) -> str:
    return storage.join(index_uri, "index.json")


def read_generations(index_uri: str, config: DedupConfig) -> list[Generation]:
    """The generations of an index, none if there is no index yet. UserError if its hashes were made another way."""
    uri = _index_file(index_uri)
    if not storage.is_file(uri):
        return []
    found, mine = storage.read_json(uri), hash_parameters(config)
    if found["parameters"] != mine:
        differing = [k for k in mine if found["parameters"].get(k) != mine[k]]
        values = "; ".join(f"{k}: index {found['parameters'].get(k)}, configuration {mine[k]}" for k in differing)
        raise UserError(
            f"dedup.index: {index_uri} was made with other parameters ({values}). Their hashes do not compare: use the "
            "parameters of the index, or another index"
        )
    return [Generation.model_validate(g) for g in found["generations"]]


def before(generations: list[Generation], name: str) -> list[Generation]:
    """The generations older than the one called `name`: what a run that is repeated compares against."""
    names = [g.name for g in generations]
    return generations[: names.index(name)] if name in names else generations


def generation_file(plan: Plan, generation: str, kind: str, number: int, suffix: str = "arrow") -> str:
    assert plan.config.index is not None
    return storage.join(plan.config.index, generation, kind, f"{number:05d}.{suffix}")


def _layout(plan: Plan, maker: Keyed) -> Layout:
    return Layout(maker.kind.schema, 1, plan.parameters)


def _rows(plan: Plan, maker: Keyed, partition: int, wanted: np.ndarray | None) -> list[pa.Table]:
    """The rows of a partition in each generation; with `wanted` (sorted) only those whose first hash is in it."""
    parts = []
    first = maker.columns[0]
    for generation in plan.generations:
        step = plan.partitions // generation.partitions
        uri = generation_file(plan, generation.name, maker.kind.name, partition // step)
        rows = read_partition([uri], 0, _layout(plan, maker))
        hashes = column(rows, first)
        low = np.uint64(partition * (2**64 // plan.partitions))
        start = int(np.searchsorted(hashes, low))
        end = len(hashes)
        if partition + 1 < plan.partitions:
            end = int(np.searchsorted(hashes, np.uint64((partition + 1) * (2**64 // plan.partitions))))
        rows, hashes = rows.slice(start, end - start), hashes[start:end]
        if wanted is not None:
            lefts, rights = (np.searchsorted(hashes, wanted, side) for side in ("left", "right"))
            count = rights - lefts
            at = np.repeat(lefts - np.cumsum(count) + count, count) + np.arange(count.sum())
            rows = rows.take(pa.array(at))
        parts.append(rows)
    return parts


def with_indexed(plan: Plan, maker: Keyed, partition: int, rows: pa.Table) -> pa.Table:
    """`rows` of a partition, and the rows of the index that have a hash of theirs."""
    wanted = np.unique(column(rows, maker.columns[0]))
    return pa.concat_tables([rows, *_rows(plan, maker, partition, wanted)]).combine_chunks()


def stored_rows(plan: Plan, maker: Keyed, partition: int) -> pa.Table:
    """All rows of a partition of the index, keyed (shard of the index << 32 | row) as if they were documents."""
    rows = pa.concat_tables(_rows(plan, maker, partition, None)).combine_chunks()
    at = rows.column_names.index("doc_key")
    return rows.set_column(at, "doc_key", pa.array(~column(rows, "doc_key")))


def _write_partition(item: tuple[str, int]) -> int:
    """Sort a partition of this run's hashes into its generation. Item: (plan URI, partition)."""
    plan, partition = load_plan(item[0]), item[1]
    total, makers = 0, key_makers(plan.config)
    tables: dict[Keyed, pa.Table] = dict(zip(makers, read_keys(plan, partition) if makers else [], strict=True))
    for maker in indexed_keys(plan.config):
        rows = tables[maker] if maker in tables else plan.read(maker.kind, partition)
        keys = column(rows, "doc_key")
        shard = plan.positions(keys) + plan.indexed_shards
        keys = ~((shard << 32) | (keys & 0xFFFFFFFF))
        order = np.lexsort((keys, *(column(rows, name) for name in reversed(maker.columns))))
        at = rows.column_names.index("doc_key")
        rows = rows.set_column(at, "doc_key", pa.array(keys)).take(pa.array(order))
        target = generation_file(plan, plan.generation, maker.kind.name, partition)
        write_partitioned(target, rows, np.zeros(len(keys), np.int64), _layout(plan, maker))
        total += len(keys)
    return total


def _copy_attributes(item: tuple[str, int]) -> int:
    """Keep the attributes of a group's documents with the generation. Item: (plan URI, group)."""
    plan, group = load_plan(item[0]), item[1]
    target = generation_file(plan, plan.generation, "attributes", group, "parquet")
    storage.write_parquet(target, storage.read_parquet(plan.file("attributes", group, "parquet")))
    return group


def add_generation(job: Job) -> None:
    """Save this run's hashes as a generation of the index; the index names it last, when all of it is there."""
    plan = job.plan
    index_uri = plan.config.index
    assert index_uri is not None
    known = read_generations(index_uri, plan.config)
    if plan.generation in [g.name for g in known]:
        return
    if [g.name for g in known] != [g.name for g in plan.generations]:
        raise UserError(f"dedup.index: {index_uri} got a generation while this run was comparing with it; run it again")
    root, kinds = storage.join(index_uri, plan.generation), [maker.kind.name for maker in indexed_keys(plan.config)]
    if kinds:
        job.partitions(_write_partition, "index", kinds[-1], root=root)
    job.groups(_copy_attributes, "index attributes", "attributes", root=root)
    new = Generation(name=plan.generation, partitions=plan.partitions, shards=plan.shards, bounds=plan.bounds)
    generations = [g.model_dump() for g in [*known, new]]
    content: dict[str, Any] = {"parameters": hash_parameters(plan.config), "generations": generations}
    storage.write_json(_index_file(index_uri), content)


def generation_name(config: DedupConfig, stamps: list[tuple[int, str]]) -> str:
    """The name of the generation that these input shards make under these parameters, whatever the index holds."""
    return f"generation-{fingerprint([hash_parameters(config), stamps])}"
