"""What a person should see of a deduplication: definition, removals, sources, the biggest clusters."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from raypt.dedup.config import DedupConfig
from raypt.dedup.documents import read_some
from raypt.dedup.elect import ClusterSummary
from raypt.dedup.ledger import DedupAccount
from raypt.dedup.minhash import jaccard_at, match_probability
from raypt.dedup.plan import Plan

TEXT_CHARACTERS = 400
S_CURVE_POINTS = np.round(np.arange(0.0, 1.0001, 0.05), 2)


def s_curve(config: DedupConfig) -> list[dict[str, float]]:
    """Jaccard similarity and the probability that a pair of it shares a band."""
    bands, rows = config.fuzzy.layout
    probabilities = match_probability(S_CURVE_POINTS, bands, rows)
    return [{"jaccard": float(j), "probability": float(p)} for j, p in zip(S_CURVE_POINTS, probabilities, strict=True)]


def definition(config: DedupConfig) -> dict[str, Any]:
    """What counts as a duplicate under this configuration."""
    fuzzy = config.fuzzy
    bands, rows = fuzzy.layout
    found: dict[str, Any] = {"scope": config.scope, "exact": None, "fuzzy": None}
    if config.exact.enabled:
        found["exact"] = {"hash": "xxh3-128", "normalise": config.exact.normalise}
    if fuzzy.enabled:
        found["fuzzy"] = {
            "unit": fuzzy.unit,
            "ngram": fuzzy.ngram,
            "num_perm": fuzzy.num_perm,
            "bands": bands,
            "rows": rows,
            "jaccard_at_half": jaccard_at(0.5, bands, rows),
            "s_curve": s_curve(config),
            "verify": None if fuzzy.verify == "none" else {"by": fuzzy.verify, "threshold": fuzzy.verify_threshold},
        }
    return found


def source_rates(ledger: DedupAccount) -> dict[str, dict[str, Any]]:
    """By source: documents, removed by reason, and the removed share."""
    rates = {}
    for source, entered in sorted(ledger.entered.items()):
        removed = {reason: t.documents for (s, reason), t in sorted(ledger.removed.items()) if s == source}
        share = sum(removed.values()) / entered.documents if entered.documents else 0.0
        rates[source] = {"documents": entered.documents, "removed": removed, "removed_fraction": share}
    return rates


def read_texts(plan: Plan, doc_keys: Iterable[int], characters: int = TEXT_CHARACTERS) -> dict[int, str]:
    """The beginning of the text of a few documents, by doc_key."""
    keys = np.array(sorted(set(doc_keys)), np.int64)
    positions = plan.positions(keys)
    texts: dict[int, str] = {}
    for position in np.unique(positions).tolist():
        found = read_some(plan.shards[position].docs_uri, keys[positions == position].tolist())
        texts |= {key: text[:characters] for key, text in found.items()}
    return texts


def build_report(
    plan: Plan, summary: ClusterSummary, ledger: DedupAccount, curve: list[dict[str, float]]
) -> dict[str, Any]:
    """Everything of `report.json`, JSON values only; `curve` is the S-curve measured (raypt.dedup.empirical)."""
    accounts = ledger.to_json()
    documents, kept = accounts["in"]["documents"], accounts["kept"]["documents"]
    sizes = sorted(summary.sizes.items())
    texts: dict[int, str] = {}
    if not plan.rebuild:
        texts = read_texts(plan, [key for cluster in summary.biggest for key in cluster["members"][:2]])
    biggest = [c | {"texts": [texts[key] for key in c["members"][:2] if key in texts]} for c in summary.biggest]
    return {
        "definition": definition(plan.config),
        "measured_s_curve": curve,
        "partitions": plan.partitions,
        "ledger": accounts,
        "removed_fraction": (documents - kept) / documents if documents else 0.0,
        "clusters": sum(n for _, n in sizes),
        "documents_in_clusters": sum(size * n for size, n in sizes),
        "cluster_sizes": [{"size": size, "clusters": n} for size, n in sizes],
        "biggest_clusters": biggest,
        "sources": source_rates(ledger),
        "removed_between_sources": [
            {"kept": kept_source, "removed": source, "documents": n}
            for (kept_source, source), n in sorted(summary.sources.items())
        ],
        "shared_between_sources": [{"a": a, "b": b, "clusters": n} for (a, b), n in sorted(summary.shared.items())],
    }


def describe_clusters(report: dict[str, Any]) -> str:
    """The biggest clusters as lines of text: size, sources, the beginning of the kept document."""
    lines = []
    for cluster in report["biggest_clusters"]:
        sources = ", ".join(f"{name} {n}" for name, n in cluster["sources"].items())
        beginning = repr(cluster["texts"][0][:100]) if cluster["texts"] else f"cluster {cluster['cluster_id']}"
        lines.append(f"  {cluster['size']} documents ({sources}): {beginning}")
    return "\n".join(lines)
