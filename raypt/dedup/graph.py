"""From equal keys to star edges to forests, and from forests to the components of the whole."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from raypt import storage
from raypt.dedup.components import components, spanning_forest, star_edges
from raypt.dedup.exchange import Layout, PartitionWriter, column, read_partition
from raypt.dedup.index import stored_rows, with_indexed
from raypt.dedup.keys import KeyMaker, key_makers
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
    done = plan.file("forest-0", partition, "parquet")
    if storage.is_file(done):
        return int(storage.read_parquet(done, ["a"]).num_rows)
    edges = [np.empty((0, 2), np.int64)]
    for maker in key_makers(plan.config):
        rows = stored_rows(plan, maker, partition) if plan.rebuild else _new_rows(plan, maker, partition)
        edges.append(star_edges(tuple(column(rows, name) for name in maker.columns), column(rows, "doc_key")))
    return _write_edges(done, spanning_forest(np.concatenate(edges)))


def _new_rows(plan: Plan, maker: KeyMaker, partition: int) -> pa.Table:
    """The keys of a partition of this run's documents, with those of the index that equal one of them."""
    rows = plan.read(maker.kind, partition)
    return with_indexed(plan, maker, partition, rows) if plan.generations else rows


def merge_forests(item: tuple[Sequence[str], str]) -> int:
    """The forest of several forests; its edges. Item: (forest URIs, output URI)."""
    sources, done = item
    if storage.is_file(done):
        return int(storage.read_parquet(done, ["a"]).num_rows)
    return _write_edges(done, spanning_forest(np.concatenate([_read_edges(uri) for uri in sources])))


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


def read_labels(plan: Plan, group: int) -> pa.Table:
    """(doc_key, root) of the members of components in a group, by doc_key."""
    files = [plan.file("labels", i) for i in range(storage.read_json(labels_uri(plan)))]
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
    if storage.is_file(labels_uri(plan)):
        return
    sizes = job.partitions(connect_partition, "connect")
    files = [plan.file("forest-0", p, "parquet") for p in range(plan.partitions)]
    limit = (plan.config.memory_mb << 20) // EDGE_BYTES
    level = 0
    while len(groups := groups_within(sizes, limit)) < len(files):
        level += 1
        items = [([files[i] for i in g], plan.file(f"forest-{level}", n, "parquet")) for n, g in enumerate(groups)]
        sizes = job.run(merge_forests, items, f"merge {level}")
        files = [out for _, out in items]
    if len(files) == 1:
        job.run(label_members, [(job.uri, files[0])], "label")
        labels = 1
    else:
        labels = connect_by_stars(job, files, sum(sizes))
    storage.write_json(labels_uri(plan), labels)
