"""What went into deduplication and what came out, by source and reason: an account a source, as every stage has one."""

from typing import Any

import numpy as np
import pyarrow as pa

from raypt.ledger import Amount, StageAccount

Accounts = dict[str, StageAccount]
"""An account by source."""


def merge(into: Accounts, other: Accounts) -> None:
    """Add another part's accounts."""
    for source, account in other.items():
        into.setdefault(source, StageAccount()).merge(account)


def total(accounts: Accounts) -> StageAccount:
    """Of all sources; reasons in alphabetical order."""
    whole = StageAccount()
    for _, account in sorted(accounts.items()):
        whole.merge(account)
    whole.removed, whole.edited = dict(sorted(whole.removed.items())), dict(sorted(whole.edited.items()))
    return whole


def account(attributes: pa.Table, removed: pa.Table, edits: pa.Table) -> Accounts:
    """The accounts of some documents. Pure.

    `attributes` (doc_key ascending, source, bytes) of what entered; `removed` (doc_key, reason); `edits` (doc_key,
    reason, bytes: how many were cut) of kept documents.
    """
    accounts: Accounts = {}
    totals = attributes.group_by("source").aggregate([("bytes", "sum"), ([], "count_all")])
    for row in totals.to_pylist():
        entered = Amount(row["count_all"], row["bytes_sum"])
        accounts[row["source"]] = StageAccount(entered, Amount(entered.documents, entered.bytes))
    lost, cut = (_with_source(attributes, rows) for rows in (removed, edits))
    for row in _sums(lost.append_column("bytes", _bytes_of(attributes, lost))):
        mine = accounts[row["source"]]
        mine.removed[row["reason"]] = Amount(row["count_all"], row["bytes_sum"])
        mine.kept.add(-row["count_all"], -row["bytes_sum"])
    for row in _sums(cut):
        mine = accounts[row["source"]]
        mine.edited[row["reason"]] = Amount(row["count_all"], row["bytes_sum"])
        mine.kept.add(0, -row["bytes_sum"])
    return accounts


def _with_source(attributes: pa.Table, rows: pa.Table) -> pa.Table:
    return rows.append_column("source", attributes["source"].take(_at(attributes, rows)))


def _bytes_of(attributes: pa.Table, rows: pa.Table) -> pa.ChunkedArray:
    return attributes["bytes"].take(_at(attributes, rows))


def _at(attributes: pa.Table, rows: pa.Table) -> pa.Array:
    """The row of `attributes` of each of `rows`."""
    return pa.array(np.searchsorted(attributes["doc_key"].to_numpy(), rows["doc_key"].to_numpy()))


def _sums(rows: pa.Table) -> list[dict[str, Any]]:
    return list(rows.group_by(["source", "reason"]).aggregate([("bytes", "sum"), ([], "count_all")]).to_pylist())
