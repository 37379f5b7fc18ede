"""From equal keys to star edges to forests, and from forests to the components of the whole."""

import functools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from raypt import storage
from raypt.dedup.components import components, spanning_forest, star_edges
from raypt.dedup.exchange import Layout, PartitionWriter, column, read_partition
from raypt.dedup.index import stored_rows, with_indexed
from raypt.dedup.keys import key_makers, read_keys
from raypt.dedup.plan import Job, Plan, load_plan
from raypt.dedup.stars import LABELS, connect_by_stars

EDGE_BYTES = 128
"""Peak memory an edge while components are computed: the edge, its endpoints' sort and index, the union-find arrays."""


def _write_edges(uri: str, edges: np.ndarray) -> int:
    storage.write_parquet(uri, pa.table({"a": edges[:, 0], "b": edges[:, 1]}))
    return len(edges)


def _read_edges(uri: str) -> np.ndarray:
    table = storage.read_parquet(uri)
    return np.column_stack([table["a"].to_numpy(), table["b"].to_numpy()])


def connect_partition(item: tuple[str, int]) -> int:
    """The spanning forest of one partition's equal keys; its edges. Item: (plan URI, partition)."""
    plan, partition = load_plan(item[0]), item[1]
    edges = [np.empty((0, 2), np.int64)]
    for maker, rows in zip(key_makers(plan.config), _rows(plan, partition), strict=True):
        edges.append(star_edges(tuple(column(rows, name) for name in maker.columns), column(rows, "doc_key")))
    return _write_edges(forest_uri(plan, 0, partition), spanning_forest(np.concatenate(edges)))


def _rows(plan: Plan, partition: int) -> list[pa.Table]:
    """The keys of a partition, of each of `key_makers`: of this run's documents, with those of the index that equal one
    of them; of the index alone in a rebuild."""
    makers = key_makers(plan.config)
    if plan.rebuild:
        return [stored_rows(plan, maker, partition) for maker in makers]
    found = read_keys(plan, partition) if makers else []
    if not plan.generations:
        return found
    return [with_indexed(plan, maker, partition, rows) for maker, rows in zip(makers, found, strict=True)]


def forest_uri(plan: Plan, level: int, number: int) -> str:
    return plan.file(f"forest-{level}", number, "parquet")


def count_edges(item: tuple[str, int]) -> int:
    """The edges of a partition's forest that is there. Item: (plan URI, partition)."""
    return _count(forest_uri(load_plan(item[0]), 0, item[1]))


def _count(uri: str) -> int:
    with storage.open_parquet(uri) as file:
        return file.num_rows


def merge_forests(item: tuple[Sequence[str], str]) -> int:
    """The forest of several forests; its edges. Item: (forest URIs, output URI)."""
    sources, target = item
    return _write_edges(target, spanning_forest(np.concatenate([_read_edges(uri) for uri in sources])))


def label_members(item: tuple[str, str]) -> int:
    """Write (doc_key, root) of every member of a component, by group. Item: (plan URI, forest URI)."""
    plan, forest = load_plan(item[0]), item[1]
    vertices, roots = components(_read_edges(forest))
    vertices, roots = vertices[vertices >= 0], roots[vertices >= 0]  # the others are of the index
    with PartitionWriter(plan.file("labels", 0), labels_layout(plan)) as writer:
        writer.add(pa.table([vertices, roots], schema=LABELS), plan.groups_of(vertices))
    return len(vertices)


def labels_layout(plan: Plan) -> Layout:
    return Layout(LABELS, plan.groups, plan.parameters)


def labels_uri(plan: Plan) -> str:
    """How many files of labels there are; written when they are all there."""
    return storage.join(plan.passes_uri, "labels.json")


@functools.lru_cache(maxsize=4)
def _label_files(uri: str) -> int:
    """What is at `labels_uri`, read once a process: it is written once, and its path holds the plan's fingerprint."""
    return int(storage.read_json(uri))


def read_labels(plan: Plan, group: int) -> pa.Table:
    """(doc_key, root) of the members of components in a group, by doc_key."""
    files = [plan.file("labels", i) for i in range(_label_files(labels_uri(plan)))]
    return read_partition(files, group, labels_layout(plan)).sort_by("doc_key")


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


def connect(job: Job) -> None:
    """After it the labels of the whole are written.

    Forests are merged as long as two of them fit the memory of a task together. If one is left, it is labelled in one
    task; if more, their components exceed the memory and are found by large-star and small-star passes.
    """
    plan = job.plan
    if not job.new and storage.is_file(labels_uri(plan)):
        return
    sizes = job.partitions(connect_partition, "connect", "forest-0", count_edges)
    files = [forest_uri(plan, 0, p) for p in range(plan.partitions)]
    limit = (plan.config.memory_mb << 20) // EDGE_BYTES
    level = 0
    while len(groups := groups_within(sizes, limit)) < len(files):
        level += 1
        there = job.there(f"forest-{level}")
        items = [([files[i] for i in g], forest_uri(plan, level, n)) for n, g in enumerate(groups)]
        todo = [n for n in range(len(items)) if n not in there]
        made = dict(zip(todo, job.run(merge_forests, [items[n] for n in todo], f"merge {level}"), strict=True))
        sizes = [made[n] if n in made else _count(target) for n, (_, target) in enumerate(items)]
        files = [target for _, target in items]
    if len(files) == 1:
        job.run(label_members, [(job.uri, files[0])], "label")
        labels = 1
    else:
        labels = connect_by_stars(job, files, sum(sizes))
    storage.write_json(labels_uri(plan), labels)
