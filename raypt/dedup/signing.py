"""Pass 1, a task a shard: text to hashes. The only pass that reads text."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt import storage
from raypt.dedup.config import DedupConfig
from raypt.dedup.contamination import FOUND, find_contaminated, load_evaluation
from raypt.dedup.documents import read_live
from raypt.dedup.exact import content_hashes
from raypt.dedup.exchange import partition_of, write_partitioned
from raypt.dedup.minhash import permutations
from raypt.dedup.plan import load_plan
from raypt.dedup.shingles import sign

ATTRIBUTES = pa.schema(
    [
        ("doc_key", pa.int64()),
        ("id", pa.string()),
        ("source", pa.string()),
        ("quality", pa.float64()),
        ("bytes", pa.int64()),
        ("hash_high", pa.uint64()),
        ("hash_low", pa.uint64()),
    ]
)
"""What later passes need of a document instead of its text."""


def _source_salt(source: pa.ChunkedArray) -> np.ndarray:
    """uint64[n]: a hash of the source's name; with scope "source" it keeps the groups of different sources apart."""
    encoded = source.combine_chunks().dictionary_encode()
    names = content_hashes(encoded.dictionary.cast(pa.large_string()), "none")[:, 1]
    salt: np.ndarray = names[encoded.indices.to_numpy()]
    return salt


def hash_documents(docs: pa.Table, config: DedupConfig) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """(attributes, band hashes uint64[n, bands], has_bands bool[n]) of documents (doc_key, source, text, ...). Pure."""
    n = docs.num_rows
    salt = _source_salt(docs["source"]) if config.scope == "source" else None
    hashes = (
        content_hashes(docs["text"], config.exact.normalise) if config.exact.enabled else np.zeros((n, 2), np.uint64)
    )
    if salt is not None:
        hashes = hashes ^ salt[:, None]
    bands, has_bands = np.zeros((n, 0), np.uint64), np.zeros(n, bool)
    if config.fuzzy.enabled:
        fuzzy = config.fuzzy
        count, rows = fuzzy.layout
        perms = permutations(fuzzy.num_perm, fuzzy.seed)[:, : count * rows]
        _, bands, tokens = sign(
            docs["text"], unit=fuzzy.unit, ngram=fuzzy.ngram, permutations=perms, bands=count, rows=rows
        )
        bands = bands ^ salt[:, None] if salt is not None else bands
        has_bands = tokens > 0
    columns = {
        "doc_key": docs["doc_key"],
        "id": docs["id"],
        "source": docs["source"],
        "quality": _quality(docs, config.quality_column),
        "bytes": pc.binary_length(docs["text"]),
        "hash_high": pa.array(hashes[:, 0]),
        "hash_low": pa.array(hashes[:, 1]),
    }
    return pa.table(columns).cast(ATTRIBUTES), bands, has_bands


def _quality(docs: pa.Table, name: str | None) -> pa.ChunkedArray | pa.Array:
    """The quality score, -inf where there is none."""
    if name is None or name not in docs.column_names:
        return pa.array(np.full(docs.num_rows, -np.inf))
    return pc.coalesce(docs[name].cast(pa.float64()), pa.scalar(-np.inf))


def sign_shard(item: tuple[str, int]) -> int:
    """Write attributes and hash exchanges of a shard; the live documents. Item: (plan URI, position of the shard)."""
    plan, position = load_plan(item[0]), item[1]
    done = plan.file("attributes", position, "parquet")
    if storage.exists(done):
        return int(storage.read_parquet(done, ["doc_key"]).num_rows)
    attributes, found, all_bands, all_keys = [ATTRIBUTES.empty_table()], [FOUND.empty_table()], [], []
    columns = ["doc_key", "id", "source", "text", *filter(None, [plan.config.quality_column])]
    for docs in read_live(plan.shards[position], columns):
        table, bands, has_bands = hash_documents(docs, plan.config)
        attributes.append(table)
        if plan.evaluation:
            evaluation = load_evaluation(plan.samples_uri, plan.config.contamination)
            found.append(find_contaminated(docs, evaluation, plan.config.contamination))
            has_bands &= ~np.isin(table["doc_key"].to_numpy(), found[-1]["doc_key"].to_numpy())
        all_bands.append(bands[has_bands])
        all_keys.append(table["doc_key"].to_numpy()[has_bands])
    table = pa.concat_tables(attributes)
    width = plan.config.fuzzy.layout[0] if plan.config.fuzzy.enabled else 0
    bands = np.concatenate([np.zeros((0, width), np.uint64), *all_bands])
    keys = np.repeat(np.concatenate([np.zeros(0, np.int64), *all_keys]), width)
    hashes = bands.reshape(-1)
    rows = pa.table({"hash": hashes, "doc_key": keys})
    parts, mark = plan.partitions, plan.parameters
    write_partitioned(plan.file("bands", position), rows, partition_of(hashes, parts), parts, fingerprint=mark)
    contaminated = pa.concat_tables(found)
    clean = ~np.isin(table["doc_key"].to_numpy(), contaminated["doc_key"].to_numpy()) & plan.config.exact.enabled
    exact = table.select(["hash_high", "hash_low", "doc_key"]).filter(pa.array(clean))
    by_high = partition_of(exact["hash_high"].to_numpy(), parts)
    write_partitioned(plan.file("exact", position), exact, by_high, parts, fingerprint=mark)
    storage.write_parquet(plan.file("contaminated", position, "parquet"), contaminated)
    storage.write_parquet(done, table)
    return int(table.num_rows)
