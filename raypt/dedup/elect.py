"""The members of each component meet, and one is kept."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt import storage
from raypt.dedup.documents import read_some
from raypt.dedup.exchange import column, partition_of
from raypt.dedup.graph import read_labels
from raypt.dedup.keys import ExactKeys, FuzzyKeys
from raypt.dedup.plan import Kind, Plan, load_plan
from raypt.dedup.signing import ATTRIBUTES, CLUSTERS_STAGE
from raypt.dedup.verdicts import removed_uri
from raypt.dedup.verify import EVIDENCE, evidence, refine
from raypt.text.hashing import murmur64_all

EXACT, FUZZY, INDEXED = ExactKeys.reason, FuzzyKeys.reason, "dedup.index"
INDEX_SOURCE = "(index)"
"""What stands for the source of a kept copy that is in the index."""
ELECTED = Kind(
    "elected",
    pa.schema(
        [
            ("doc_key", pa.int64()),
            ("id", pa.string()),
            ("cluster_id", pa.int64()),
            ("kept", pa.bool_()),
            ("reason", pa.string()),
            ("cluster_size", pa.int64()),
        ]
    ),
    "groups",
)
MEMBERS = "members"
CLUSTERS = pa.schema([("doc_key", pa.int64()), ("id", pa.string()), ("cluster_id", pa.int64()), ("kept", pa.bool_())])
SIZES = pa.schema([("doc_key", pa.int64()), ("cluster_size", pa.int64())])
"""Kept documents that stand for others too, and how many documents each stands for, itself among them."""
TOP_CLUSTERS = 20
SAMPLE_MEMBERS = 5
SAMPLE_CLUSTERS = 200


@dataclass
class ClusterSummary:
    """What the report needs of a part of the clusters; parts are added up."""

    sizes: Counter[int] = field(default_factory=Counter)
    """Clusters by number of members."""
    biggest: list[dict[str, Any]] = field(default_factory=list)
    """The biggest: {cluster_id, size, sources: {source: members}, members: [doc_key, ...] the kept one first}."""
    sample: list[tuple[int, list[int]]] = field(default_factory=list)
    """Clusters chosen by a hash of their name, whatever the parts: (the hash, some doc_keys)."""
    sources: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Removed documents by (source of the kept copy, source of the removed copy)."""
    shared: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Clusters with a member in both sources (a, b), a <= b; (a, a): with two or more members in a."""

    def add(self, other: "ClusterSummary") -> None:
        self.sizes += other.sizes
        self.sources += other.sources
        self.shared += other.shared
        both = sorted(self.biggest + other.biggest, key=lambda c: (-c["size"], c["cluster_id"]))
        self.biggest = both[:TOP_CLUSTERS]
        self.sample = sorted(self.sample + other.sample)[:SAMPLE_CLUSTERS]


def members_kind(plan: Plan) -> Kind:
    """Members of clusters by component: ATTRIBUTES, the component, and what the keep policy and verification need."""
    columns = [*ATTRIBUTES, pa.field("root", pa.int64()), pa.field("priority", pa.int64())]
    if plan.verifies:
        columns.append(pa.field(EVIDENCE, pa.large_list(pa.uint64())))
    return Kind(MEMBERS, pa.schema(columns), "partitions")


def join_members(item: tuple[str, int]) -> int:
    """Write the attributes of a group's cluster members, partitioned by component. Item: (plan URI, group)."""
    plan, group = load_plan(item[0]), item[1]
    kind = members_kind(plan)
    labels = read_labels(plan, group)
    keys, roots, found = labels["doc_key"].to_numpy(), labels["root"], 0
    texts = _Texts(plan, group, keys)
    uri = plan.file("attributes", group, "parquet")
    with plan.writer(kind, group) as writer, storage.open_parquet(uri, whole=True) as file:
        for part in range(file.num_row_groups):
            attributes = file.read_row_group(part)
            members = attributes.filter(pa.array(np.isin(attributes["doc_key"].to_numpy(), keys)))
            n = members.num_rows
            assert (members["doc_key"].to_numpy() == keys[found : found + n]).all(), "labels and attributes disagree"
            levels = [plan.source_priority.get(source, 0) for source in members["source"].to_pylist()]
            members = members.append_column("root", roots.slice(found, n))
            members = members.append_column("priority", pa.array(levels, pa.int64()))
            if plan.verifies:
                ordered = texts.of(members["doc_key"].to_pylist())
                members = members.append_column(EVIDENCE, evidence(ordered, plan.config.fuzzy))
            found += n
            writer.add(members, partition_of(murmur64_all(column(members, "root")), plan.partitions))
    assert found == len(keys), "a label of a document that is not in its group"
    return found


class _Texts:
    """The texts of cluster members, a shard at a time."""

    def __init__(self, plan: Plan, group: int, members: np.ndarray) -> None:
        self._members = members
        self._shards = {shard.index: shard for shard in plan.group(group)} if plan.verifies else {}
        self._index, self._texts = -1, dict[int, str]()

    def of(self, doc_keys: list[int]) -> pa.Array:
        """Of documents of one shard, as large_string."""
        index = doc_keys[0] >> 32 if doc_keys else self._index
        if index != self._index:
            wanted = self._members[self._members >> 32 == index].tolist()
            self._index, self._texts = index, read_some(self._shards[index].docs_uri, wanted)
        return pa.array([self._texts[key] for key in doc_keys], pa.large_string())


def rank(members: pa.Table) -> pa.Table:
    """Cluster members, clusters together, in the order of the keep policy. Pure."""
    better = (-column(members, "bytes"), -column(members, "quality"), -column(members, "priority"))
    return members.take(pa.array(np.lexsort((column(members, "doc_key"), *better, column(members, "root")))))


def elect(members: pa.Table) -> pa.Table:
    """(doc_key, id, source, cluster_id, kept, reason, cluster_size, kept_source) of cluster members, clusters together,
    the kept first.

    The keep policy: the highest source priority, then quality, then the longest text (bytes), then the smallest
    doc_key. Where root is negative the index holds a copy: none is kept, all are `dedup.index`. Else a removed
    document is `dedup.exact` if a member that ranks above it has the same text, else `dedup.fuzzy`. `members` has
    ATTRIBUTES, root and priority. Pure.
    """
    ranked = rank(members)
    root = column(ranked, "root")
    n = len(root)
    starts = np.ones(n, bool)
    starts[1:] = root[1:] != root[:-1]
    sizes = np.diff(np.append(np.flatnonzero(starts), n))
    indexed = root < 0
    first = np.maximum.accumulate(np.where(starts, np.arange(n), 0))
    high, low = column(ranked, "hash_high"), column(ranked, "hash_low")
    twins = np.lexsort((np.arange(n), low, high, root))
    repeated = np.zeros(n, bool)
    if n and (high.any() or low.any()):
        same = [values[twins][1:] == values[twins][:-1] for values in (root, high, low)]
        repeated[twins[1:]] = same[0] & same[1] & same[2]
    reason = pc.if_else(pa.array(repeated), EXACT, FUZZY)
    reason = pc.if_else(pa.array(starts), pa.scalar(None, pa.string()), reason)
    reason = pc.if_else(pa.array(indexed), INDEXED, reason)
    kept_source = pc.if_else(pa.array(indexed), INDEX_SOURCE, ranked["source"].take(pa.array(first)))
    return pa.table(
        {
            "doc_key": ranked["doc_key"],
            "id": ranked["id"],
            "source": ranked["source"],
            "cluster_id": pa.array(root),
            "kept": pa.array(starts & ~indexed),
            "reason": reason,
            "cluster_size": pa.array(np.repeat(sizes, sizes)),
            "kept_source": kept_source,
        }
    )


def summarise(elected: pa.Table) -> ClusterSummary:
    """The report's figures of elected clusters. Pure."""
    summary = ClusterSummary()
    if elected.num_rows == 0:
        return summary
    cluster = column(elected, "cluster_id")
    starts = np.flatnonzero(np.append(True, cluster[1:] != cluster[:-1]))
    sizes = np.diff(np.append(starts, elected.num_rows))
    summary.sizes = Counter(dict(zip(*(v.tolist() for v in np.unique(sizes, return_counts=True)), strict=True)))
    removed = elected.filter(pc.invert(elected["kept"]))
    pairs = removed.group_by(["kept_source", "source"]).aggregate([([], "count_all")]).to_pylist()
    summary.sources = Counter({(p["kept_source"], p["source"]): p["count_all"] for p in pairs})
    members = elected.group_by(["cluster_id", "source"]).aggregate([([], "count_all")])
    summary.shared = _shared(members)
    summary.sample = _sample(cluster[starts], starts, sizes, column(elected, "doc_key"))
    for i in np.lexsort((cluster[starts], -sizes))[:TOP_CLUSTERS].tolist():
        part = elected.slice(int(starts[i]), int(sizes[i]))
        summary.biggest.append(
            {
                "cluster_id": int(cluster[starts[i]]),
                "size": int(sizes[i]),
                "sources": dict(sorted(Counter(part["source"].to_pylist()).items())),
                "members": part["doc_key"].slice(0, SAMPLE_MEMBERS).to_pylist(),
            }
        )
    return summary


def _sample(
    clusters: np.ndarray, starts: np.ndarray, sizes: np.ndarray, keys: np.ndarray
) -> list[tuple[int, list[int]]]:
    order = murmur64_all(clusters)
    chosen = np.argsort(order, kind="stable")[:SAMPLE_CLUSTERS].tolist()
    return [(int(order[i]), keys[starts[i] : starts[i] + min(sizes[i], SAMPLE_MEMBERS)].tolist()) for i in chosen]


def _shared(members: pa.Table) -> Counter[tuple[str, str]]:
    """Clusters by pair of sources they lie in, from (cluster_id, source, count_all)."""
    several = members.filter(pc.greater(members["count_all"], 1)).group_by("source").aggregate([([], "count_all")])
    shared = Counter({(row["source"], row["source"]): row["count_all"] for row in several.to_pylist()})
    left = members.select(["cluster_id", "source"])
    both = left.join(left.rename_columns(["cluster_id", "other"]), "cluster_id", join_type="inner")
    both = both.filter(pc.less(both["source"], both["other"]))
    for row in both.group_by(["source", "other"]).aggregate([([], "count_all")]).to_pylist():
        shared[row["source"], row["other"]] = row["count_all"]
    return shared


def _elected(plan: Plan, partition: int) -> pa.Table:
    members = plan.read(members_kind(plan), partition)
    return elect(refine(rank(members), plan.config.fuzzy) if plan.verifies else members)


def elect_partition(item: tuple[str, int]) -> ClusterSummary:
    """Elect the kept member of each component of a partition and write the decisions. Item: (plan URI, partition)."""
    plan, partition = load_plan(item[0]), item[1]
    elected = _elected(plan, partition)
    plan.write(ELECTED, partition, elected, plan.groups_of(column(elected, "doc_key")))
    return summarise(elected)


def summarise_partition(item: tuple[str, int]) -> ClusterSummary:
    """What `elect_partition` returns, of a partition whose decisions are written. Item: (plan URI, partition)."""
    return summarise(_elected(load_plan(item[0]), item[1]))


def settle_clusters(item: tuple[str, int]) -> int:
    """Write what became of a group's members of clusters, removed or not: its verdicts, its rows of the clusters' table
    and whom the kept stand for, in one file. Item: (plan URI, group).
    """
    plan, group = load_plan(item[0]), item[1]
    storage.write_parquet(removed_uri(plan, CLUSTERS_STAGE, group), plan.read(ELECTED, group).sort_by("doc_key"))
    return group


def standing(members: pa.Table) -> pa.Table:
    """SIZES of a group's members of clusters. Pure."""
    kept = members.filter(pc.and_(members["kept"], pc.greater(members["cluster_size"], 1)))
    return kept.select(SIZES.names).cast(SIZES)
