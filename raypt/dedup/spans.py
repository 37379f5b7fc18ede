"""Repeated passages: hashes of spans, found across all documents, cut where they are not the first occurrence."""

from typing import Any

import numpy as np
import pyarrow as pa

from raypt import storage
from raypt.dedup.base import Pass
from raypt.dedup.config import DedupConfig, SentenceConfig
from raypt.dedup.documents import read_group
from raypt.dedup.exchange import column, partition_of
from raypt.dedup.plan import Job, Kind, load_plan
from raypt.dedup.sentences import hash_spans, hash_units
from raypt.dedup.verdicts import EDITS, REMAINDER, alone, cuts_uri, removed_uri
from raypt.kernels import kernel
from raypt.text.buffers import string_buffers

STAGE, SENTENCES = "sentences", "dedup.sentences"
SPANS = Kind(
    "spans",
    pa.schema([("high", pa.uint64()), ("low", pa.uint64()), ("doc_key", pa.int64()), ("unit", pa.int64())]),
    "partitions",
)
REPEATS = Kind("repeats", pa.schema([("doc_key", pa.int64()), ("unit", pa.int64())]), "groups")
BYTES_A_UNIT = 60
"""Text of a sentence, about; lines of a page are shorter, paragraphs longer."""
SPAN_BYTES = 160
"""Peak memory a span in a reduce task: its row, the sort of four columns, copies."""


def hash_group_spans(item: tuple[str, int]) -> int:
    """Write the span hashes of the documents of a group that are still there. Item: (plan URI, group)."""
    plan, group = load_plan(item[0]), item[1]
    config = plan.config.sentences
    with plan.writer(SPANS, group) as writer:
        for docs in read_group(plan, group, ["doc_key", "text"], STAGE):
            units = hash_units(docs["text"], config.unit)
            high, low, rows, unit = hash_spans(units.hashes, units.offsets, config.length)
            table = pa.table([high, low, docs["doc_key"].to_numpy()[rows], unit], schema=SPANS.schema)
            writer.add(table, partition_of(high, plan.partitions))
    return writer.rows


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
    """Write (doc_key, unit) of the spans of a partition that are to be cut, by group. Item: (plan URI, partition)."""
    plan, partition = load_plan(item[0]), item[1]
    rows = plan.read(SPANS, partition)
    high, low, keys, units = (column(rows, name) for name in ("high", "low", "doc_key", "unit"))
    repeated = rows.select(REPEATS.schema.names).filter(
        pa.array(mark_repeats(high, low, keys, units, plan.config.sentences.max_documents))
    )
    plan.write(REPEATS, partition, repeated, plan.groups_of(column(repeated, "doc_key")))
    return int(repeated.num_rows)


def cut_group(item: tuple[str, int]) -> int:
    """Write the cuts of a group, and the documents of which too little is left. Item: (plan URI, group)."""
    plan, group = load_plan(item[0]), item[1]
    repeats = plan.read(REPEATS, group).sort_by([("doc_key", "ascending"), ("unit", "ascending")])
    wanted = np.unique(repeats["doc_key"].to_numpy())
    edits, short = [EDITS.empty_table()], [pa.array([], pa.int64())]
    for docs in read_group(plan, group, ["doc_key", "text"], STAGE):
        docs = docs.filter(pa.array(np.isin(docs["doc_key"].to_numpy(), wanted)))
        if docs.num_rows:
            kept, gone = cut_repeats(docs, repeats, plan.config.sentences)
            edits.append(kept)
            short.append(gone)
    storage.write_parquet(cuts_uri(plan, STAGE, group), pa.concat_tables(edits))
    storage.write_parquet(removed_uri(plan, STAGE, group), alone(pa.chunked_array(short), REMAINDER))
    return group


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


class Sentences(Pass):
    """Runs of sentences, lines or paragraphs that occur before are cut."""

    stage = STAGE
    sections = (STAGE,)
    reasons = (SENTENCES, REMAINDER)
    edits = "spans"

    def reduce_bytes(self, config: DedupConfig, rows: int, text_bytes: int) -> int:
        return text_bytes // BYTES_A_UNIT * SPAN_BYTES

    def run(self, job: Job) -> dict[str, Any]:
        job.groups(hash_group_spans, "spans", SPANS.name)
        job.partitions(find_repeats, "repeats", REPEATS.name)
        job.groups(cut_group, "cut", f"{STAGE}-removed")
        return {}
