"""What a person should see of a deduplication: definition, removals, sources, the biggest clusters."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from raypt.dedup.config import DedupConfig
from raypt.dedup.ledger import Accounts, total
from raypt.dedup.minhash import jaccard_at, match_probability
from raypt.dedup.plan import Plan
from raypt.ledger import Ledger

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
            "normalise": fuzzy.normalise.model_dump(mode="json"),
            "ngram": fuzzy.ngram,
            "num_perm": fuzzy.num_perm,
            "bands": bands,
            "rows": rows,
            "jaccard_at_half": jaccard_at(0.5, bands, rows),
            "s_curve": s_curve(config),
            "verify": None if fuzzy.verify == "none" else {"by": fuzzy.verify, "threshold": fuzzy.verify_threshold},
        }
    return found


def source_rates(accounts: Accounts) -> dict[str, dict[str, Any]]:
    """By source: documents, removed by reason, and the removed share."""
    rates = {}
    for source, account in sorted(accounts.items()):
        removed = {reason: amount.documents for reason, amount in sorted(account.removed.items())}
        documents = account.entered.documents
        share = sum(removed.values()) / documents if documents else 0.0
        rates[source] = {"documents": documents, "removed": removed, "removed_fraction": share}
    return rates


def build_report(plan: Plan, accounts: Accounts, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Everything of `report.json`, JSON values only; `parts` are what the passes report."""
    whole = total(accounts)
    gone = whole.entered.documents - whole.kept.documents
    report: dict[str, Any] = {
        "definition": definition(plan.config),
        "partitions": plan.partitions,
        "ledger": Ledger({"dedup": whole}).to_json()["dedup"],
        "removed_fraction": gone / whole.entered.documents if whole.entered.documents else 0.0,
        "sources": source_rates(accounts),
    }
    for part in parts:
        assert not report.keys() & part.keys()
        report |= part
    return report


def describe_clusters(report: dict[str, Any]) -> str:
    """The biggest clusters as lines of text: size, sources, the beginning of the kept document."""
    lines = []
    for cluster in report["biggest_clusters"]:
        sources = ", ".join(f"{name} {n}" for name, n in cluster["sources"].items())
        beginning = repr(cluster["texts"][0][:100]) if cluster["texts"] else f"cluster {cluster['cluster_id']}"
        lines.append(f"  {cluster['size']} documents ({sources}): {beginning}")
    return "\n".join(lines)
