"""What went into deduplication and what came out, in documents and bytes, by source and reason."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from raypt.ledger import Amount


@dataclass
class DedupAccount:
    """What went into deduplication and what was removed or cut."""

    entered: dict[str, Amount] = field(default_factory=dict)
    """By source."""
    removed: dict[tuple[str, str], Amount] = field(default_factory=dict)
    """By (source, reason)."""
    edited: dict[tuple[str, str], Amount] = field(default_factory=dict)
    """Kept documents that were cut and the bytes cut from them, by (source, reason)."""

    def add(self, other: "DedupAccount") -> None:
        for source, tally in other.entered.items():
            self.entered.setdefault(source, Amount()).add(tally.documents, tally.bytes)
        for mine, theirs in ((self.removed, other.removed), (self.edited, other.edited)):
            for pair, tally in theirs.items():
                mine.setdefault(pair, Amount()).add(tally.documents, tally.bytes)

    def to_json(self) -> dict[str, Any]:
        """{"in", "kept", "removed": {reason: ...}, "edited": {reason: ...}}, each {documents, bytes}.

        in = kept + removed in documents, in = kept + removed + edited in bytes.
        """
        entered = _total(self.entered.values())
        removed, edited = _by_reason(self.removed), _by_reason(self.edited)
        gone, cut = _total(removed.values()), _total(edited.values())
        kept = Amount(entered.documents - gone.documents, entered.bytes - gone.bytes - cut.bytes)
        return {
            "in": vars(entered),
            "kept": vars(kept),
            "removed": {reason: vars(tally) for reason, tally in removed.items()},
            "edited": {reason: vars(tally) for reason, tally in edited.items()},
        }


def _total(tallies: Iterable[Amount]) -> Amount:
    total = Amount()
    for tally in tallies:
        total.add(tally.documents, tally.bytes)
    return total


def _by_reason(pairs: dict[tuple[str, str], Amount]) -> dict[str, Amount]:
    totals: dict[str, Amount] = {}
    for (_, reason), tally in sorted(pairs.items()):
        totals.setdefault(reason, Amount()).add(tally.documents, tally.bytes)
    return totals


def account(attributes: pa.Table, removed: pa.Table, edits: pa.Table) -> DedupAccount:
    """The ledger of one shard. Pure.

    `attributes` (doc_key ascending, source, bytes) of what entered; `removed` (doc_key, reason); `edits` (doc_key,
    reason, bytes: how many were cut) of kept documents.
    """
    ledger = DedupAccount()
    totals = attributes.group_by("source").aggregate([("bytes", "sum"), ([], "count_all")])
    for row in totals.to_pylist():
        ledger.entered[row["source"]] = Amount(row["count_all"], row["bytes_sum"])
    keys = attributes["doc_key"].to_numpy()
    lost = attributes.take(pa.array(np.searchsorted(keys, removed["doc_key"].to_numpy()))).select(["source", "bytes"])
    lost = lost.append_column("reason", removed["reason"])
    cut = attributes.take(pa.array(np.searchsorted(keys, edits["doc_key"].to_numpy()))).select(["source"])
    cut = cut.append_column("reason", edits["reason"]).append_column("bytes", edits["bytes"])
    for table, target in ((lost, ledger.removed), (cut, ledger.edited)):
        for row in table.group_by(["source", "reason"]).aggregate([("bytes", "sum"), ([], "count_all")]).to_pylist():
            target[row["source"], row["reason"]] = Amount(row["count_all"], row["bytes_sum"])
    return ledger
