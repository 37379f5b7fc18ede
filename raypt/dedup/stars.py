"""Connected components without ever holding them all: alternating large-star and small-star passes over the exchange.

Kiveris et al., "Connected Components in MapReduce and Beyond" (SoCC 2014). A large-star step ties each greater
neighbour of a node to the smallest node it sees, a small-star step the smaller ones; both keep the components as they
are. The passes end when a whole round changed nothing, which leaves each node tied to the smallest of its component;
there is no limit on the rounds. A task holds the rows of its nodes only: its memory is bounded by the number of tasks
and the largest number of neighbours a node has.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raypt import storage
from raypt.dedup.exchange import Layout, column, partition_of, read_partition, write_partitioned
from raypt.dedup.plan import Job, Plan, load_plan
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


STAR_BYTES = 160
"""Peak memory an edge in a task of a star pass: it is there both ways, with a sort and copies of each column."""
EDGES = pa.schema([("node", pa.int64()), ("other", pa.int64())])
LABELS = pa.schema([("doc_key", pa.int64()), ("root", pa.int64())])


def _write_edges(plan: Plan, uri: str, edges: np.ndarray, tasks: int) -> None:
    """Edges by the task of their first node."""
    rows = pa.table([edges[:, 0].copy(), edges[:, 1].copy()], schema=EDGES)
    write_partitioned(uri, rows, partition_of(murmur64_all(edges[:, 0]), tasks), _layout(plan, tasks))


def _layout(plan: Plan, tasks: int) -> Layout:
    return Layout(EDGES, tasks, plan.parameters)


@dataclass(frozen=True)
class Step:
    """One task of a star pass: task `number` of `tasks` reads its nodes from `files` files of the kind `source`."""

    plan_uri: str
    number: int
    tasks: int
    source: str
    files: int
    target: str

    def rows(self, plan: Plan) -> pa.Table:
        uris = [plan.file(self.source, i) for i in range(self.files)]
        return read_partition(uris, self.number, _layout(plan, self.tasks))


def scatter_forest(item: tuple[Step, str]) -> int:
    """Hand a forest's edges to the tasks of their nodes. Item: (the step, forest URI)."""
    step, forest = item
    plan = load_plan(step.plan_uri)
    table = storage.read_parquet(forest)
    edges = both_ways(np.column_stack([table["a"].to_numpy(), table["b"].to_numpy()]))
    _write_edges(plan, plan.file(step.target, step.number), edges, step.tasks)
    return step.number


def star_step(step: Step) -> int:
    """One step on the nodes of a task; the new edges."""
    plan = load_plan(step.plan_uri)
    rows = step.rows(plan)
    large = step.target.startswith("large")
    edges, changes = (large_star if large else small_star)(column(rows, "node"), column(rows, "other"))
    _write_edges(plan, plan.file(step.target, step.number), edges if large else both_ways(edges), step.tasks)
    storage.write_json(_changes_uri(plan, step), changes)
    return changes


def _changes_uri(plan: Plan, step: Step) -> str:
    return plan.file(f"{step.target}-changes", step.number, "json")


def label_stars(step: Step) -> int:
    """Write (doc_key, root) of the nodes of a task, by group."""
    plan = load_plan(step.plan_uri)
    rows = step.rows(plan)
    nodes, _, least = _least(column(rows, "node"), column(rows, "other"))
    first = np.append(True, nodes[1:] != nodes[:-1])[: len(nodes)] & (nodes >= 0)
    table = pa.table([nodes[first], least[first]], schema=LABELS)
    layout = Layout(LABELS, plan.groups, plan.parameters)
    write_partitioned(plan.file("labels", step.number), table, plan.groups_of(nodes[first]), layout)
    return step.number


def connect_by_stars(job: Job, forests: list[str], edges: int) -> int:
    """From forests of so many edges to labels; the number of files of labels.

    As few tasks as the memory of a task allows: each reads a file of every other, so a round takes the square of their
    number in requests (10^9 edges at 1 GB: 150 tasks, 90,000 requests a round).
    """
    plan = job.plan
    tasks = min(max(1, -(-edges * STAR_BYTES // (plan.config.memory_mb << 20))), plan.partitions)
    scatter = [(Step(job.uri, i, tasks, "", 0, "small-0"), uri) for i, uri in enumerate(forests)]
    there = job.there("small-0")
    job.run(scatter_forest, [item for item in scatter if item[0].number not in there], "scatter")
    source, files, changes, rounds = "small-0", len(forests), 1, 0
    while changes:
        rounds += 1
        changes = 0
        for target in (f"large-{rounds}", f"small-{rounds}"):
            steps = [Step(job.uri, t, tasks, source, files, target) for t in range(tasks)]
            there = job.there(f"{target}-changes")
            todo = [step for step in steps if step.number not in there]
            changes += sum(job.run(star_step, todo, target.replace("-", " star ")))
            done = [_changes_uri(plan, step) for step in steps if step.number in there]
            changes += sum(int(found) for found in storage.in_parallel(storage.read_json, done))
            source, files = target, tasks
    there = job.there("labels")
    left = [t for t in range(tasks) if t not in there]
    job.run(label_stars, [Step(job.uri, t, tasks, source, files, "labels") for t in left], "label")
    return tasks
