"""Repeated passages: hashes of spans, found across all documents, cut where they are not the first occurrence."""

from typing import Any

import numpy as np
import pyarrow as pa

from raypt import storage
from raypt.dedup.config import SentenceConfig
from raypt.dedup.documents import read_live
from raypt.dedup.exchange import column, partition_of, read_partition, write_partitioned
from raypt.dedup.plan import load_plan
from raypt.dedup.sentences import hash_spans, hash_units
from raypt.kernels import kernel
from raypt.text.buffers import string_buffers

SENTENCES, REMAINDER = "dedup.sentences", "dedup.remainder"
EDITS = pa.schema([("doc_key", pa.int64()), ("starts", pa.list_(pa.int64())), ("stops", pa.list_(pa.int64()))])
"""What is cut from a document: bytes [start, stop) of its UTF-8 text, in order, apart from each other."""


def hash_shard_spans(item: tuple[str, int]) -> int:
    """Write the span hashes of the documents of a shard that are still there. Item: (plan URI, position)."""
    plan, position = load_plan(item[0]), item[1]
    done = plan.file("spans", position)
    if storage.exists(done):
        return 0
    files = [plan.file("elected", partition) for partition in range(plan.partitions)]
    members = read_partition(files, position, fingerprint=plan.parameters)
    contaminated = storage.read_parquet(plan.file("contaminated", position, "parquet"), ["doc_key"])
    gone = np.append(column(members, "doc_key")[~column(members, "kept")], contaminated["doc_key"].to_numpy())
    parts: list[tuple[np.ndarray, ...]] = [
        (np.zeros(0, np.uint64), np.zeros(0, np.uint64), *(np.zeros(0, np.int64),) * 2)
    ]
    config = plan.config.sentences
    for docs in read_live(plan.shards[position], ["doc_key", "text"]):
        docs = docs.filter(pa.array(~np.isin(docs["doc_key"].to_numpy(), gone)))
        units = hash_units(docs["text"], config.unit)
        high, low, rows, unit = hash_spans(units.hashes, units.offsets, config.length)
        parts.append((high, low, docs["doc_key"].to_numpy()[rows], unit))
    high, low, keys, unit = (np.concatenate(column_parts) for column_parts in zip(*parts, strict=True))
    table = pa.table({"high": high, "low": low, "doc_key": keys, "unit": unit})
    write_partitioned(done, table, partition_of(high, plan.partitions), plan.partitions, fingerprint=plan.parameters)
    return len(high)


def mark_repeats(
    high: np.ndarray, low: np.ndarray, keys: np.ndarray, units: np.ndarray, max_documents: int
) -> np.ndarray:
    """bool[n]: which spans are to be cut. Of a span value found in more than `max_documents` documents all
    occurrences but the first by (doc_key, unit); of another all but the first in each document. Pure."""
    n = len(high)
    marked = np.zeros(n, bool)
    if n == 0:
        return marked
    order = np.lexsort((units, keys, low, high))
    new_value, new_document = np.ones(n, bool), np.ones(n, bool)
    new_value[1:] = (high[order][1:] != high[order][:-1]) | (low[order][1:] != low[order][:-1])
    new_document[1:] = new_value[1:] | (keys[order][1:] != keys[order][:-1])
    starts = np.flatnonzero(new_value)
    documents = np.add.reduceat(new_document, starts, dtype=np.int64)
    often = np.repeat(documents > max_documents, np.diff(np.append(starts, n)))
    marked[order] = np.where(often, ~new_value, ~new_document)
    return marked


def find_repeats(item: tuple[str, int]) -> int:
    """Write (doc_key, unit) of the spans of a partition that are to be cut, by shard. Item: (plan URI, partition)."""
    plan, partition = load_plan(item[0]), item[1]
    done = plan.file("repeats", partition)
    if storage.exists(done):
        return 0
    files = [plan.file("spans", position) for position in range(len(plan.shards))]
    rows = read_partition(files, partition, fingerprint=plan.parameters)
    high, low, keys, units = (column(rows, name) for name in ("high", "low", "doc_key", "unit"))
    repeated = rows.select(["doc_key", "unit"]).filter(
        pa.array(mark_repeats(high, low, keys, units, plan.config.sentences.max_documents))
    )
    positions = plan.positions(column(repeated, "doc_key"))
    write_partitioned(done, repeated, positions, len(plan.shards), fingerprint=plan.parameters)
    return int(repeated.num_rows)


@kernel
def _cuts(
    data: Any,
    texts: Any,
    starts: Any,
    words: Any,
    offsets: Any,
    cut: Any,
    firsts: Any,
    lasts: Any,
    bounds: Any,
    left: Any,
) -> None:
    """Cut units to byte ranges [firsts, lasts) a document, and what is left of it: left[doc] = (units, words)."""
    n = 0
    for doc in range(offsets.shape[0] - 1):
        size = texts[doc + 1] - texts[doc]
        open_cut = False
        for u in range(offsets[doc], offsets[doc + 1]):
            if cut[u] and not open_cut:
                firsts[n] = starts[u]
            elif open_cut and not cut[u]:
                lasts[n] = starts[u]
                n += 1
            open_cut = cut[u]
            if not cut[u]:
                left[doc, 0] += 1
                left[doc, 1] += words[u]
        if open_cut:
            while firsts[n] > 0 and data[texts[doc] + firsts[n] - 1] <= 0x20:
                firsts[n] -= 1
            lasts[n] = size
            n += 1
        bounds[doc + 1] = n


def cut_repeats(docs: pa.Table, repeats: pa.Table, config: SentenceConfig) -> tuple[pa.Table, pa.Array]:
    """(EDITS of the documents that stay, doc_keys of those of which too little is left).

    `docs` (doc_key, text), all of which have a row in `repeats` (doc_key, unit: the first unit of a span to cut). At
    the end of a text the white space before a cut goes with it. Pure.
    """
    units = hash_units(docs["text"], config.unit)
    data, texts = string_buffers(docs["text"])
    keys = docs["doc_key"].to_numpy()
    at = np.searchsorted(keys, repeats["doc_key"].to_numpy())
    inside = (at < len(keys)) & (keys[np.minimum(at, len(keys) - 1)] == repeats["doc_key"].to_numpy())
    first = units.offsets[at[inside]] + repeats["unit"].to_numpy()[inside]
    cut = np.zeros(len(units.hashes), bool)
    for i in range(config.length):
        cut[first + i] = True
    firsts, lasts = np.empty(len(cut), np.int64), np.empty(len(cut), np.int64)
    bounds, left = np.zeros(len(units.offsets), np.int64), np.zeros((len(keys), 2), np.int64)
    _cuts(data, texts, units.starts, units.words, units.offsets, cut, firsts, lasts, bounds, left)
    short = left[:, 0] < (config.min_units or 1)
    if config.min_words is not None:
        short |= left[:, 1] < config.min_words
    lists = (pa.ListArray.from_arrays(bounds.astype(np.int32), pa.array(v[: bounds[-1]])) for v in (firsts, lasts))
    edits = pa.Table.from_arrays([docs["doc_key"], *lists], schema=EDITS)
    return edits.filter(pa.array(~short)), pa.array(keys[short])


def edited_bytes(edits: pa.Table) -> np.ndarray:
    """int64[n]: the bytes cut from each document of EDITS."""
    edits = edits.combine_chunks()
    if edits.num_rows == 0:
        return np.zeros(0, np.int64)
    starts, stops = (edits[name].chunk(0) for name in ("starts", "stops"))
    sizes = np.concatenate([[0], np.cumsum(stops.flatten().to_numpy() - starts.flatten().to_numpy())])
    lengths = np.concatenate([[0], np.cumsum(starts.value_lengths().to_numpy())])
    return np.diff(sizes[lengths])


@kernel
def _remove(data: Any, texts: Any, firsts: Any, lasts: Any, bounds: Any, out: Any, ends: Any) -> None:
    n = 0
    for doc in range(texts.shape[0] - 1):
        i = texts[doc]
        for c in range(bounds[doc], bounds[doc + 1]):
            while i < texts[doc] + firsts[c]:
                out[n] = data[i]
                n += 1
                i += 1
            i = texts[doc] + lasts[c]
        while i < texts[doc + 1]:
            out[n] = data[i]
            n += 1
            i += 1
        ends[doc + 1] = n


def cut_text(text: pa.Array | pa.ChunkedArray, edits: pa.Table) -> pa.Array:
    """large_string[n]: each text without what its row of EDITS cuts. Pure."""
    data, texts = string_buffers(text)
    edits = edits.combine_chunks()
    starts, stops = (
        edits[name].chunk(0) if edits.num_rows else pa.array([], EDITS.field(name).type) for name in ("starts", "stops")
    )
    lengths = starts.value_lengths().to_numpy()
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    out = np.empty(int(texts[-1] - texts[0]), np.uint8)
    ends = np.zeros(len(texts), np.int64)
    _remove(data, texts, starts.flatten().to_numpy(), stops.flatten().to_numpy(), bounds, out, ends)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(out[: ends[-1]])]
    return pa.LargeStringArray.from_buffers(len(texts) - 1, buffers[1], buffers[2])
