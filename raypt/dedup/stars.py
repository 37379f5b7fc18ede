"""Connected components without ever holding them all: alternating large-star and small-star passes over the exchange.

Kiveris et al., "Connected Components in MapReduce and Beyond" (SoCC 2014). A large-star step ties each greater
neighbour of a node to the smallest node it sees, a small-star step the smaller ones; both keep the components as they
are. The passes end when a whole round changed nothing, which leaves each node tied to the smallest of its component;
there is no limit on the rounds. A task holds the rows of its nodes only: its memory is bounded by the number of
partitions and the largest number of neighbours a node has.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from raypt import storage
from raypt.dedup.exchange import column, partition_of, read_partition, write_partitioned
from raypt.dedup.plan import Plan, TaskRunner, load_plan
from raypt.text.hashing import murmur64_all

Star = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, int]]


def _least(nodes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(nodes sorted, their neighbours, the smallest of a node and all its neighbours on each row), rows told once."""
    order = np.lexsort((others, nodes))
    nodes, others = nodes[order], others[order]
    new = np.append(True, (nodes[1:] != nodes[:-1]) | (others[1:] != others[:-1]))[: len(nodes)]
    nodes, others = nodes[new], others[new]
    starts = np.flatnonzero(np.append(True, nodes[1:] != nodes[:-1])[: len(nodes)])
    least = np.repeat(np.minimum(others[starts], nodes[starts]), np.diff(np.append(starts, len(nodes))))
    return nodes, others, least


def large_star(nodes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, int]:
    """(edges int64[e, 2] (greater, smaller), how many are new). `nodes` with all their neighbours, both ways. Pure."""
    nodes, others, least = _least(nodes, others)
    up = others > nodes
    return np.column_stack([others[up], least[up]]), int((least[up] != nodes[up]).sum())


def small_star(nodes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, int]:
    """As `large_star`; `nodes` with their smaller neighbours only. Pure."""
    nodes, others, least = _least(nodes, others)
    new = others != least
    own = np.column_stack([nodes, least])[~new]
    return np.concatenate([own, np.column_stack([others[new], least[new]])]), int(new.sum())


def both_ways(edges: np.ndarray) -> np.ndarray:
    return np.concatenate([edges, edges[:, ::-1]])


def _write_edges(plan: Plan, uri: str, edges: np.ndarray) -> None:
    """Edges by the partition of their first node."""
    partition = partition_of(murmur64_all(edges[:, 0]), plan.partitions)
    rows = pa.table({"node": edges[:, 0], "other": edges[:, 1]})
    write_partitioned(uri, rows, partition, plan.partitions, fingerprint=plan.parameters)


def scatter_forest(item: tuple[str, int, str]) -> int:
    """Hand a forest's edges to the partitions of their nodes. Item: (plan URI, number, forest URI)."""
    plan, number, forest = load_plan(item[0]), item[1], item[2]
    done = plan.file("small-0", number)
    if not storage.exists(done):
        table = storage.read_parquet(forest)
        _write_edges(plan, done, both_ways(np.column_stack([table["a"].to_numpy(), table["b"].to_numpy()])))
    return number


def star_step(item: tuple[str, int, str, str, int]) -> int:
    """One step on a partition; the new edges. Item: (plan URI, partition, kind read, kind written, files read)."""
    plan, partition, source, target, files = load_plan(item[0]), *item[1:]
    done, count = plan.file(target, partition), plan.file(f"{target}-changes", partition, "json")
    if storage.exists(count):
        return int(storage.read_json(count))
    rows = read_partition([plan.file(source, i) for i in range(files)], partition, fingerprint=plan.parameters)
    large = target.startswith("large")
    edges, changes = (large_star if large else small_star)(column(rows, "node"), column(rows, "other"))
    _write_edges(plan, done, edges if large else both_ways(edges))
    storage.write_json(count, changes)
    return changes


def label_stars(item: tuple[str, int, str]) -> int:
    """Write (doc_key, root) of a partition's nodes, by shard. Item: (plan URI, partition, kind read)."""
    plan, partition, source = load_plan(item[0]), item[1], item[2]
    done = plan.file("labels", partition)
    if storage.exists(done):
        return partition
    files = [plan.file(source, i) for i in range(plan.partitions)]
    rows = read_partition(files, partition, fingerprint=plan.parameters)
    nodes, _, least = _least(column(rows, "node"), column(rows, "other"))
    first = np.append(True, nodes[1:] != nodes[:-1])[: len(nodes)] & (nodes >= 0)
    table = pa.table({"doc_key": nodes[first], "root": least[first]})
    write_partitioned(done, table, plan.positions(nodes[first]), len(plan.shards), fingerprint=plan.parameters)
    return partition


def connect_by_stars(plan: Plan, plan_uri: str, forests: list[str], runner: TaskRunner) -> int:
    """From forests to labels, in `plan.partitions` label files; the rounds it took."""
    runner(scatter_forest, [(plan_uri, i, uri) for i, uri in enumerate(forests)], name="dedup: scatter")
    source, files, changes, rounds = "small-0", len(forests), 1, 0
    while changes:
        rounds += 1
        changes = 0
        for target in (f"large-{rounds}", f"small-{rounds}"):
            items: list[Any] = [(plan_uri, p, source, target, files) for p in range(plan.partitions)]
            changes += sum(runner(star_step, items, name=f"dedup: {target.replace('-', ' star ')}"))
            source, files = target, plan.partitions
    runner(label_stars, [(plan_uri, p, source) for p in range(plan.partitions)], name="dedup: label")
    return rounds
