"""What was seen before, by Bloom filters: documents, paragraphs or bands, approximate, in one pass.

The hash range is cut into partitions, each with a filter of its own: a key meets only keys of its partition, so many
small filters answer as one big one, and each is gone through by one task in doc_key order. So the result is that of one
filter over the corpus in its order, whatever the workers, shards' files and retries; it does depend on that order: the
first stays, and a document whose neighbours come on both sides of it is compared with the earlier ones only.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raypt import storage
from raypt.dedup.base import Pass
from raypt.dedup.bloom_filter import BloomFilter, filter_bytes
from raypt.dedup.config import DedupConfig, SentenceConfig
from raypt.dedup.documents import read_group
from raypt.dedup.exact import content_hashes
from raypt.dedup.exchange import column, partition_of
from raypt.dedup.keys import FuzzyKeys, source_salt
from raypt.dedup.plan import Job, Kind, Plan, load_plan
from raypt.dedup.sentences import hash_units
from raypt.dedup.spans import cut_repeats
from raypt.dedup.verdicts import EDITS, REMAINDER, alone, cuts_uri, removed_uri

STAGE, BLOOM = "bloom", "dedup.bloom"
_KEY = [("hash", pa.uint64()), ("doc_key", pa.int64())]
KEYS = Kind("bloom-keys", pa.schema([*_KEY, ("unit", pa.int32())]), "partitions")
"""A key and where it is from; the unit is that of a paragraph, else 0."""
KNOWN = Kind("bloom-known", pa.schema([("doc_key", pa.int64()), ("unit", pa.int32())]), "groups")
FILTERS = "bloom-filters"
ROW_BYTES = 20
"""Of a key in a file."""
BYTES_A_PARAGRAPH = 60
"""Text of a paragraph at least, on average; a filter is sized by the keys that came, this only chooses partitions."""


@dataclass(frozen=True)
class FilterSummary:
    """What the filter of a partition did."""

    keys: int
    known: int
    """Of the keys."""
    bytes: int
    """Of the filter."""
    fill: float
    """Share of its bits that are set at the end."""
    expected_false: float
    """Keys taken for known that were new, by the filter's fill as they came."""


def key_rate(config: DedupConfig) -> float:
    """The false-positive rate of a key: of a document's bands each has a part, 1 - (1 - p)^(1 / bands)."""
    rate = config.bloom.false_positive_rate
    if config.bloom.unit != "band":
        return rate
    return float(-np.expm1(np.log1p(-rate) / config.fuzzy.layout[0]))


def bloom_keys(docs: pa.Table, config: DedupConfig) -> pa.Table:
    """The keys (KEYS) of documents (doc_key, source, text), in their order. Pure."""
    salt = source_salt(docs["source"]) if config.scope == "source" else None
    keys = docs["doc_key"].to_numpy()
    if config.bloom.unit == "band":
        bands = FuzzyKeys().rows(docs, salt, config)
        units = pa.array(np.zeros(bands.num_rows, np.int32))
        return pa.table([bands["hash"], bands["doc_key"], units], schema=KEYS.schema)
    if config.bloom.unit == "document":
        hashes, rows = content_hashes(docs["text"], config.exact.normalise)[:, 0].copy(), np.arange(len(keys))
        units_of = np.zeros(len(keys), np.int32)
    else:
        units = hash_units(docs["text"], "paragraph")
        counts = np.diff(units.offsets)
        rows = np.repeat(np.arange(len(keys)), counts)
        hashes = units.hashes
        units_of = (np.arange(len(rows)) - np.repeat(units.offsets[:-1], counts)).astype(np.int32)
    if salt is not None:
        hashes = hashes ^ salt[rows]
    return pa.table([hashes, keys[rows], units_of], schema=KEYS.schema)


def key_group(item: tuple[str, int]) -> int:
    """Write the keys of the documents of a group that are still there. Item: (plan URI, group)."""
    plan, group = load_plan(item[0]), item[1]
    with plan.writer(KEYS, group) as writer:
        for docs in read_group(plan, group, ["doc_key", "source", "text"], STAGE):
            rows = bloom_keys(docs, plan.config)
            writer.add(rows, partition_of(column(rows, "hash"), plan.partitions))
    return writer.rows


def filter_partition(item: tuple[str, int]) -> FilterSummary:
    """Pass the keys of a partition through its filter; write those that it knew, by group. Item: (plan URI, partition).

    Memory: the filter and the keys of a file.
    """
    plan, partition = load_plan(item[0]), item[1]
    seen = BloomFilter(plan.stored_bytes(KEYS, partition) // ROW_BYTES, key_rate(plan.config))
    keys, known, false = 0, 0, 0.0
    with plan.writer(KNOWN, partition) as writer:
        for rows in plan.read_each(KEYS, partition):
            hashes = column(rows, "hash")
            before = seen.chance
            found = seen.add(hashes)
            keys, known = keys + len(hashes), known + int(found.sum())
            false += (before + seen.chance) / 2 * int((~found).sum())
            hits = rows.select(KNOWN.schema.names).filter(pa.array(found))
            writer.add(hits, plan.groups_of(column(hits, "doc_key")))
    summary = FilterSummary(keys, known, seen.words.nbytes, seen.fill, false)
    storage.write_json(_summary_uri(plan, partition), asdict(summary))
    return summary


def _summary_uri(plan: Plan, partition: int) -> str:
    return plan.file(FILTERS, partition, "json")


def read_summary(item: tuple[str, int]) -> FilterSummary:
    """What the filter of a partition did. Item: (plan URI, partition)."""
    return FilterSummary(**storage.read_json(_summary_uri(load_plan(item[0]), item[1])))


def settle_group(item: tuple[str, int]) -> int:
    """Write what a group loses to the filters. Item: (plan URI, group)."""
    plan, group = load_plan(item[0]), item[1]
    target = removed_uri(plan, STAGE, group)
    known = plan.read(KNOWN, group).sort_by([("doc_key", "ascending"), ("unit", "ascending")])
    wanted = np.unique(known["doc_key"].to_numpy())
    if plan.config.bloom.unit != "paragraph":
        storage.write_parquet(target, alone(wanted, BLOOM))
        return group
    passage = SentenceConfig(unit="paragraph", length=1, min_words=plan.config.bloom.min_words)
    edits, short = [EDITS.empty_table()], [pa.array([], pa.int64())]
    for docs in read_group(plan, group, ["doc_key", "text"], STAGE):
        docs = docs.filter(pa.array(np.isin(docs["doc_key"].to_numpy(), wanted)))
        if docs.num_rows:
            kept, gone = cut_repeats(docs, known, passage)
            edits.append(kept)
            short.append(gone)
    storage.write_parquet(cuts_uri(plan, STAGE, group), pa.concat_tables(edits))
    storage.write_parquet(target, alone(pa.chunked_array(short), REMAINDER))
    return group


def summarise(config: DedupConfig, filters: list[FilterSummary]) -> dict[str, Any]:
    """The report's part of all filters. Pure."""
    return {
        "unit": config.bloom.unit,
        "false_positive_rate": config.bloom.false_positive_rate,
        "keys": sum(f.keys for f in filters),
        "known": sum(f.known for f in filters),
        "expected_false": sum(f.expected_false for f in filters),
        "filters": len(filters),
        "filter_bytes": sum(f.bytes for f in filters),
        "fill": max(f.fill for f in filters),
    }


class Bloom(Pass):
    """What a Bloom filter has seen before is removed or cut."""

    stage = STAGE
    sections = (STAGE,)
    reasons = (BLOOM, REMAINDER)

    def cuts(self, config: DedupConfig) -> bool:
        return config.bloom.unit == "paragraph"

    def identity(self, config: DedupConfig) -> dict[str, Any]:
        """Its own section, and the parameters of the sections whose keys it takes, enabled or not."""
        found = super().identity(config)
        if config.bloom.enabled:
            fuzzy = config.fuzzy.model_dump(mode="json", exclude={"enabled", "verify", "verify_threshold"})
            takes = {"document": config.exact.normalise, "paragraph": None, "band": fuzzy}
            found["bloom-keys"] = takes[config.bloom.unit]
        return found

    def keys(self, config: DedupConfig, rows: int, text_bytes: int) -> int:
        """Keys of so many documents, about."""
        per = {"document": rows, "band": rows * config.fuzzy.layout[0], "paragraph": text_bytes // BYTES_A_PARAGRAPH}
        return max(per[config.bloom.unit], rows)

    def reduce_bytes(self, config: DedupConfig, rows: int, text_bytes: int) -> int:
        """The filters; beside its filter, a task holds the keys of one file at a time."""
        return filter_bytes(self.keys(config, rows, text_bytes), key_rate(config))

    def run(self, job: Job) -> dict[str, Any]:
        job.groups(key_group, "bloom keys", KEYS.name)
        filters = job.partitions(filter_partition, "bloom filters", FILTERS, read_summary)
        job.groups(settle_group, "bloom", f"{STAGE}-removed")
        return {STAGE: summarise(job.plan.config, filters)}
