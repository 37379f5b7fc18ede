"""The pass of exact and near duplicates: documents that share a key are one cluster, of which one is kept."""

from typing import Any

import numpy as np

from raypt.dedup.base import Pass
from raypt.dedup.config import DedupConfig
from raypt.dedup.elect import (
    ELECTED,
    EXACT,
    FUZZY,
    INDEXED,
    MEMBERS,
    ClusterSummary,
    elect_partition,
    join_members,
    settle_clusters,
    summarise_partition,
)
from raypt.dedup.empirical import rates, see_all
from raypt.dedup.graph import connect
from raypt.dedup.keys import KEYS, KeyMaker
from raypt.dedup.plan import Job
from raypt.dedup.signing import CLUSTERS_STAGE, sign_group
from raypt.dedup.stored import stored_attributes

BAND_ROW_BYTES = 16
SORT_FACTOR = 5
"""Peak memory of a reduce task over the bytes of its rows: rows, sort order, sorted copies, edges."""


class Clusters(Pass):
    """What shares a key of any kind is a duplicate, and so is what they connect.

    It also notes what later passes need of every document, so it runs where no key is switched on.
    """

    stage = CLUSTERS_STAGE
    sections = tuple(maker.section for maker in KEYS)
    reasons = (EXACT, FUZZY, INDEXED)
    needs_text = False
    keys: tuple[KeyMaker, ...] = KEYS

    def enabled(self, config: DedupConfig) -> bool:
        return True

    def reduce_bytes(self, config: DedupConfig, rows: int, text_bytes: int) -> int:
        per_document = max(config.fuzzy.layout[0] if config.fuzzy.enabled else 0, 2)
        return rows * per_document * BAND_ROW_BYTES * SORT_FACTOR

    def run(self, job: Job) -> dict[str, Any]:
        job.groups(stored_attributes if job.plan.rebuild else sign_group, "sign", "attributes")
        connect(job)
        job.groups(join_members, "join", MEMBERS)
        summary = ClusterSummary()
        for part in job.partitions(elect_partition, "elect", ELECTED.name, summarise_partition):
            summary.add(part)
        job.groups(settle_clusters, "settle", f"{CLUSTERS_STAGE}-removed")
        fuzzy = job.plan.config.fuzzy
        groups = [keys for _, keys in summary.sample] if fuzzy.enabled and job.plan.config.measure_s_curve else []
        # Two members of each of the biggest clusters; an index holds no text.
        shown = [] if job.plan.rebuild else [key for cluster in summary.biggest for key in cluster["members"][:2]]
        seen = see_all(job, [key for keys in groups for key in keys], shown)
        return {"measured_s_curve": rates(groups, seen.sets, fuzzy), **_figures(summary, seen.texts)}


def _figures(summary: ClusterSummary, texts: dict[int, str]) -> dict[str, Any]:
    sizes = sorted(summary.sizes.items())
    return {
        "clusters": sum(n for _, n in sizes),
        "documents_in_clusters": int(np.sum([size * n for size, n in sizes])),
        "cluster_sizes": [{"size": size, "clusters": n} for size, n in sizes],
        "biggest_clusters": [
            c | {"texts": [texts[key] for key in c["members"][:2] if key in texts]} for c in summary.biggest
        ],
        "removed_between_sources": [
            {"kept": kept_source, "removed": source, "documents": n}
            for (kept_source, source), n in sorted(summary.sources.items())
        ],
        "shared_between_sources": [{"a": a, "b": b, "clusters": n} for (a, b), n in sorted(summary.shared.items())],
    }
