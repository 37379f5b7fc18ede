"""Passes 2 and 3: equal hashes to star edges to forests, and forests to the components of the whole."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from raypt import storage
from raypt.dedup.components import components, spanning_forest, star_edges
from raypt.dedup.exchange import column, read_partition, write_partitioned
from raypt.dedup.index import HASHES, stored_rows, with_indexed
from raypt.dedup.plan import Plan, TaskRunner, load_plan
from raypt.dedup.stars import connect_by_stars

EDGE_BYTES = 128
"""Peak memory an edge while components are computed: the edge, its endpoints' sort and index, the union-find arrays."""


def _write_edges(uri: str, edges: np.ndarray) -> int:
    storage.write_parquet(uri, pa.table({"a": edges[:, 0], "b": edges[:, 1]}))
    return len(edges)


def _read_edges(uri: str) -> np.ndarray:
    table = storage.read_parquet(uri)
    return np.column_stack([table["a"].to_numpy(), table["b"].to_numpy()])


def connect_partition(item: tuple[str, int]) -> int:
    """The spanning forest of one partition's equal hashes; its edges. Item: (plan URI, partition)."""
    plan, partition = load_plan(item[0]), item[1]
    done = plan.file("forest-0", partition, "parquet")
    if storage.exists(done):
        return int(storage.read_parquet(done, ["a"]).num_rows)
    edges = []
    for kind, names in HASHES.items():
        rows = stored_rows(plan, kind, partition) if plan.rebuild else _new_rows(plan, kind, partition)
        edges.append(star_edges(tuple(column(rows, name) for name in names), column(rows, "doc_key")))
    return _write_edges(done, spanning_forest(np.concatenate(edges)))


def _new_rows(plan: Plan, kind: str, partition: int) -> pa.Table:
    """The hashes of a partition of this run's documents, with those of the index that equal one of them."""
    files = [plan.file(kind, position) for position in range(len(plan.shards))]
    rows = read_partition(files, partition, fingerprint=plan.parameters)
    return with_indexed(plan, kind, partition, rows) if plan.generations else rows


def merge_forests(item: tuple[Sequence[str], str]) -> int:
    """The forest of several forests; its edges. Item: (forest URIs, output URI)."""
    sources, done = item
    if storage.exists(done):
        return int(storage.read_parquet(done, ["a"]).num_rows)
    return _write_edges(done, spanning_forest(np.concatenate([_read_edges(uri) for uri in sources])))


def label_members(item: tuple[str, str]) -> int:
    """Write (doc_key, root) of every member of a component, by shard. Item: (plan URI, forest URI)."""
    plan, forest = load_plan(item[0]), item[1]
    done = plan.file("labels", 0)
    vertices, roots = components(_read_edges(forest))
    vertices, roots = vertices[vertices >= 0], roots[vertices >= 0]  # the others are of the index
    positions = plan.positions(vertices)
    rows = pa.table({"doc_key": vertices, "root": roots})
    write_partitioned(done, rows, positions, len(plan.shards), fingerprint=plan.parameters)
    return len(vertices)


def groups_within(sizes: Sequence[int], limit: int) -> list[range]:
    """Consecutive groups, each as long as its sum is at most `limit`; a size above it is a group by itself."""
    groups, start, total = [], 0, 0
    for i, size in enumerate(sizes):
        if i > start and total + size > limit:
            groups.append(range(start, i))
            start, total = i, 0
        total += size
    if start < len(sizes):
        groups.append(range(start, len(sizes)))
    return groups


def connect(plan: Plan, plan_uri: str, runner: TaskRunner) -> None:
    """Passes 2 and 3: after them the labels of the whole are written.

    Forests are merged as long as two of them fit the memory of a task together. If one is left, it is labelled in one
    task; if more, their components exceed the memory and are found by large-star and small-star passes.
    """
    if storage.exists(plan.labels_uri):
        return
    sizes = runner(connect_partition, [(plan_uri, p) for p in range(plan.partitions)], name="dedup: connect")
    files = [plan.file("forest-0", p, "parquet") for p in range(plan.partitions)]
    limit = (plan.config.memory_mb << 20) // EDGE_BYTES
    level = 0
    while len(groups := groups_within(sizes, limit)) < len(files):
        level += 1
        items = [([files[i] for i in g], plan.file(f"forest-{level}", n, "parquet")) for n, g in enumerate(groups)]
        sizes = runner(merge_forests, items, name=f"dedup: merge {level}")
        files = [out for _, out in items]
    if len(files) == 1:
        runner(label_members, [(plan_uri, files[0])], name="dedup: label")
    else:
        connect_by_stars(plan, plan_uri, files, runner)
    storage.write_json(plan.labels_uri, 1 if len(files) == 1 else plan.partitions)
