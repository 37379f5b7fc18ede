"""The last tasks, a group of shards at a time: the verdicts of all passes come together in each shard's files."""

from typing import Any

import numpy as np
import pyarrow as pa

from raypt import storage
from raypt.artefact import Card, Identity, Output
from raypt.collection import Collection
from raypt.dedup.elect import standing
from raypt.dedup.ledger import account
from raypt.dedup.plan import FORMAT, Plan, load_plan
from raypt.dedup.signing import CLUSTERS_STAGE
from raypt.dedup.verdicts import EDITS, cuts, edited_bytes, removals, union, verdicts
from raypt.ledger import Ledger

LISTS, PREFIX = "lists", "group-"
ACCOUNTED = pa.schema([("doc_key", pa.int64()), ("reason", pa.string()), ("bytes", pa.int64())])


def lists(plan: Plan) -> Collection:
    """What deduplication decided, an artefact a group of shards: the lists of what each shard loses, and its edits."""
    return Collection(plan.work_uri, LISTS, PREFIX)


def shard_lists(work_uri: str) -> dict[int, dict[str, str]]:
    """Of a deduplication that is done: by number of the shard, the kinds of its lists (removed, edits, sizes) and where
    each is read.
    """
    out: dict[int, dict[str, str]] = {}
    for card in Collection(work_uri, LISTS, PREFIX).read_cards().values():
        for path in card.files:
            kind, _, name = path.partition("/")
            out.setdefault(int(name.removeprefix("shard-").partition(".")[0]), {})[kind] = card.uri(work_uri, path)
    return out


def list_identity(plan: Plan, group: int) -> Identity:
    return Identity("removed and edited documents", FORMAT, {"plan": plan.key}, {"group": group})


def finish_group(item: tuple[str, int]) -> Card:
    """Write what each shard of a group loses, its edits, and which documents stand for others; the account is that of
    a ledger, by source. Item: (plan URI, group).
    """
    plan, group = load_plan(item[0]), item[1]

    def maker(output: Output) -> dict[str, Any]:
        found = verdicts(plan, group)
        removed, sizes = removals(found.values()).sort_by("doc_key"), standing(found[CLUSTERS_STAGE])
        edits, accounted = _edits(plan, group, removed["doc_key"].to_numpy())
        for index in plan.shards[plan.bounds[group] : plan.bounds[group + 1]]:
            if plan.cuts:
                output.write_parquet(_within(plan, plan.edits(index)), _of_shard(edits, index))
            output.write_parquet(_within(plan, plan.removed(index)), _of_shard(removed, index))
            mine = _of_shard(sizes, index)
            if mine.num_rows:
                output.write_parquet(_within(plan, plan.sizes(index)), mine)
        uri = plan.file("attributes", group, "parquet")
        attributes = storage.read_parquet(uri, ["doc_key", "source", "bytes"], whole=True)
        return Ledger(account(attributes, removed, accounted)).to_json()

    pack_up_to = 0 if storage.is_local(plan.work_uri) else storage.LITTLE_BYTES
    return lists(plan).build(group, list_identity(plan, group), maker, pack_up_to=pack_up_to)


def _within(plan: Plan, uri: str) -> str:
    return uri.removeprefix(f"{plan.work_uri.rstrip('/')}/")


def _of_shard(rows: pa.Table, index: int) -> pa.Table:
    """The rows of a shard; `rows` by doc_key."""
    first, last = np.searchsorted(rows["doc_key"].to_numpy(), np.array([index << 32, (index + 1) << 32]))
    return rows.slice(first, last - first)


def _edits(plan: Plan, group: int, lost: np.ndarray) -> tuple[pa.Table, pa.Table]:
    """(EDITS of the kept documents, (doc_key, reason, bytes) of each). What several passes cut counts for the first."""
    edits, accounted = EDITS.empty_table(), [ACCOUNTED.empty_table()]
    for stage, cut in cuts(plan, group):
        both = union([edits, cut.filter(pa.array(~np.isin(cut["doc_key"].to_numpy(), lost)))])
        keys, more = both["doc_key"].to_numpy(), edited_bytes(both)
        more[np.searchsorted(keys, edits["doc_key"].to_numpy())] -= edited_bytes(edits)
        rows = pa.table([keys, pa.array([f"dedup.{stage}"] * len(keys), pa.string()), more], schema=ACCOUNTED)
        accounted.append(rows.filter(pa.array(more > 0)))
        edits = both
    return edits, pa.concat_tables(accounted)
