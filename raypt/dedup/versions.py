"""The pass that keeps one version of each page, by its address."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt import storage
from raypt.dedup.base import Pass
from raypt.dedup.config import DedupConfig
from raypt.dedup.documents import read_group, read_texts
from raypt.dedup.exact import content_hashes
from raypt.dedup.exchange import column
from raypt.dedup.index import with_indexed
from raypt.dedup.keys import URL_KEYS, source_salt
from raypt.dedup.plan import Job, Kind, Plan, load_plan
from raypt.dedup.url import NO_DATE, dates, normalise_urls
from raypt.dedup.verdicts import REMOVED, removed_uri
from raypt.errors import UserError

STAGE, REASON = "url", "dedup.url"
OLDER = Kind("older", pa.schema([("doc_key", pa.int64()), ("cluster_id", pa.int64())]), "groups")
ROW_BYTES = 250
"""Peak memory an address in a reduce task: its row, the sort of its columns, copies."""
TOP_ADDRESSES = 20


@dataclass
class Versions:
    """What the report needs of a part of the addresses; parts are added up."""

    documents: int = 0
    """With an address."""
    undated: int = 0
    repeated: int = 0
    """Addresses of two documents or more."""
    removed: int = 0
    newer: int = 0
    """Kept though the index has an older version."""
    biggest: list[tuple[int, int]] = field(default_factory=list)
    """(documents, doc_key of one) of the addresses with most documents."""

    def add(self, other: "Versions") -> None:
        for name in ("documents", "undated", "repeated", "removed", "newer"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.biggest = sorted(self.biggest + other.biggest, key=lambda b: (-b[0], b[1]))[:TOP_ADDRESSES]


def address_rows(docs: pa.Table, config: DedupConfig, priority: dict[str, int], where: str) -> pa.Table:
    """The addresses of documents, as URL_KEYS has them; documents without one are left out. Pure."""
    url = config.url
    normal = normalise_urls(docs[url.url_column], url.tracking)
    present = normal.is_valid()
    docs, normal = docs.filter(present), normal.filter(present)
    hashes = content_hashes(normal, "none")
    if config.scope == "source":
        hashes = hashes ^ source_salt(docs["source"])[:, None]
    n = docs.num_rows
    date, quality = np.full(n, NO_DATE), np.full(n, -np.inf)
    if url.date_column is not None and url.date_column in docs.column_names:
        date = dates(docs[url.date_column], where)
    if config.quality_column is not None and config.quality_column in docs.column_names:
        scores = pc.coalesce(docs[config.quality_column].cast(pa.float64()), pa.scalar(-np.inf))
        quality = scores.to_numpy()
    levels = [priority.get(source, 0) for source in docs["source"].to_pylist()]
    columns = [hashes[:, 0].copy(), hashes[:, 1].copy(), docs["doc_key"], date, pa.array(levels, pa.int64()), quality]
    return pa.table(columns, schema=URL_KEYS.kind.schema)


def hash_group_urls(item: tuple[str, int]) -> int:
    """Write the addresses of the documents of a group. Item: (plan URI, group)."""
    plan, group = load_plan(item[0]), item[1]
    config, url = plan.config, plan.config.url
    wanted = ["doc_key", "source", url.url_column]
    wanted += [name for name in (url.date_column, config.quality_column) if name is not None]
    needed = [url.url_column, *([url.date_column] if url.keep == "latest" else [])]
    with plan.writer(URL_KEYS.kind, group) as writer:
        for docs in read_group(plan, group, wanted, STAGE):
            for name in needed:
                if name not in docs.column_names:
                    raise UserError(
                        f"dedup.url: the documents have no column {name!r}, only {', '.join(docs.column_names)}; carry "
                        "it with corpus.sources[].columns, or set dedup.url.url_column, date_column or keep"
                    )
            rows = address_rows(docs, config, plan.source_priority, f"dedup.url.date_column ({url.date_column})")
            writer.add(rows, URL_KEYS.partition(rows, plan.partitions))
    return writer.rows


def rank(rows: pa.Table, keep: str) -> pa.Table:
    """Addresses together, the version that stays first. Pure."""
    date, priority, quality = (-column(rows, name) for name in ("date", "priority", "quality"))
    better: dict[str, tuple[np.ndarray, ...]] = {
        "latest": (quality, priority, date),
        "best": (date, quality, priority),
        "first": (),
    }
    keys = (column(rows, "doc_key"), *better[keep], column(rows, "hash_low"), column(rows, "hash_high"))
    return rows.take(pa.array(np.lexsort(keys)))


def elect_versions(rows: pa.Table, keep: str) -> tuple[pa.Table, Versions]:
    """(OLDER: the documents that another version stays for, figures). Rows of the index (negative keys) win or lose as
    others do, but are not removed. Pure."""
    ranked = rank(rows, keep)
    keys, n = column(ranked, "doc_key"), rows.num_rows
    summary = Versions(int((keys >= 0).sum()), int(((keys >= 0) & (column(ranked, "date") == NO_DATE)).sum()))
    if n == 0:
        return OLDER.schema.empty_table(), summary
    high, low = column(ranked, "hash_high"), column(ranked, "hash_low")
    first = np.append(True, (high[1:] != high[:-1]) | (low[1:] != low[:-1]))
    starts = np.flatnonzero(first)
    sizes = np.diff(np.append(starts, n))
    least = np.repeat(np.minimum.reduceat(keys, starts), sizes)
    lost = ~first & (keys >= 0)
    summary.repeated, summary.removed = int((sizes > 1).sum()), int(lost.sum())
    summary.newer = int(((keys[starts] >= 0) & (least[starts] < 0)).sum())
    most = np.lexsort((least[starts], -sizes))[:TOP_ADDRESSES]
    largest = np.maximum.reduceat(keys, starts)
    summary.biggest = [(int(sizes[i]), int(largest[i])) for i in most if sizes[i] > 1]
    return pa.table([keys[lost], least[lost]], schema=OLDER.schema), summary


def _choose(plan: Plan, partition: int) -> tuple[pa.Table, Versions]:
    rows = plan.read(URL_KEYS.kind, partition)
    if plan.generations:
        rows = with_indexed(plan, URL_KEYS, partition, rows)
    return elect_versions(rows, plan.config.url.keep)


def keep_versions(item: tuple[str, int]) -> Versions:
    """Choose the version of each address of a partition, and write which documents go. Item: (plan URI, partition)."""
    plan, partition = load_plan(item[0]), item[1]
    older, summary = _choose(plan, partition)
    plan.write(OLDER, partition, older, plan.groups_of(column(older, "doc_key")))
    return summary


def count_versions(item: tuple[str, int]) -> Versions:
    """What `keep_versions` returns, of a partition whose documents to go are written. Item: (plan URI, partition)."""
    return _choose(load_plan(item[0]), item[1])[1]


def settle_versions(item: tuple[str, int]) -> int:
    """Write what a group loses to other versions. Item: (plan URI, group)."""
    plan, group = load_plan(item[0]), item[1]
    older = plan.read(OLDER, group).sort_by("doc_key")
    reasons = pa.array([REASON] * older.num_rows, pa.string())
    removed = pa.table([older["doc_key"], reasons, older["cluster_id"]], schema=REMOVED)
    storage.write_parquet(removed_uri(plan, STAGE, group), removed)
    return group


class Url(Pass):
    """Of the documents with the same address the latest, best or first stays."""

    stage = STAGE
    sections = (STAGE,)
    reasons = (REASON,)

    def reduce_bytes(self, config: DedupConfig, rows: int, text_bytes: int) -> int:
        return rows * ROW_BYTES

    def run(self, job: Job) -> dict[str, Any]:
        job.groups(hash_group_urls, "addresses", URL_KEYS.kind.name)
        summary = Versions()
        for part in job.partitions(keep_versions, "versions", OLDER.name, count_versions):
            summary.add(part)
        job.groups(settle_versions, "settle versions", f"{STAGE}-removed")
        return {
            "url": {
                "documents": summary.documents,
                "undated": summary.undated,
                "repeated_addresses": summary.repeated,
                "removed": summary.removed,
                "newer_than_indexed": summary.newer,
                "biggest": _named(job.plan, summary.biggest),
            }
        }


def _named(plan: Plan, biggest: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    urls = read_texts(plan, [key for _, key in biggest if key >= 0], plan.config.url.url_column)
    return [{"documents": size, "url": urls.get(key)} for size, key in biggest]
