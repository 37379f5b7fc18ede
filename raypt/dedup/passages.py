"""What the report shows of repeated substrings: the longest cuts, and the passages that occur most often."""

from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from raypt import storage
from raypt.dedup.documents import read_texts
from raypt.dedup.exchange import column
from raypt.dedup.plan import Plan
from raypt.dedup.units import unit_cuts
from raypt.dedup.verdicts import intervals
from raypt.text.buffers import string_buffers

TOP = 20
MORE = 10
"""Rows kept by each task for one shown in the end: a long passage has many anchors."""
TEXT_CHARACTERS = 400
PASSAGES = pa.schema(
    [
        ("doc_key", pa.int64()),
        ("first", pa.int64()),
        ("last", pa.int64()),
        ("measure", pa.int64()),
        ("digest", pa.uint64()),
    ]
)
"""A passage [first, last) of a document (bytes of the longest, units of the most frequent), its bytes or occurrences,
and a hash of its text that tells copies from others in the report."""


def frequent(contexts: pa.Table, windows: np.ndarray, counts: np.ndarray, length: int) -> pa.Table:
    """PASSAGES, in units, around the windows that occur most often, of contexts as `Seen` keeps them. Pure."""
    if not contexts.num_rows:
        return PASSAGES.empty_table()
    keys, firsts = column(contexts, "doc_key"), column(contexts, "first")
    most = np.maximum.reduceat(counts, windows[:-1])
    order = np.lexsort((firsts, keys, -most))[: TOP * MORE]
    rows = []
    for i in order[most[order] > 1].tolist():
        mine = counts[windows[i] : windows[i + 1]] == most[i]
        start = int(np.argmax(mine))
        size = int(np.argmin(np.append(mine[start:], False)))
        first = int(firsts[i]) + start
        rows.append((int(keys[i]), first, first + size + length - 1, int(most[i]), 0))
    return _table(rows)


def _table(rows: list[tuple[int, int, int, int, int]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(PASSAGES)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, PASSAGES, strict=True)], schema=PASSAGES)


def longest(docs: pa.Table, edits: pa.Table) -> pa.Table:
    """PASSAGES, in bytes, of the longest cuts of documents (all of which have a row in EDITS), each text once. Pure."""
    keys, starts, stops = intervals(edits)
    data, texts = string_buffers(docs["text"])
    at = texts[np.searchsorted(docs["doc_key"].to_numpy(), keys)]
    rows: dict[int, tuple[int, int, int, int, int]] = {}
    for i in np.lexsort((starts, keys, starts - stops))[: TOP * MORE].tolist():
        digest = xxhash.xxh3_64_intdigest(data[at[i] + starts[i] : at[i] + stops[i]].tobytes())
        rows.setdefault(digest, (int(keys[i]), int(starts[i]), int(stops[i]), int(stops[i] - starts[i]), digest))
    return _table(list(rows.values())[:TOP])


def passages_report(plan: Plan) -> dict[str, Any]:
    """The longest cuts, and the passages that occur most often (chosen from TOP * MORE of each partition)."""
    cut: dict[int, dict[str, Any]] = {}
    for row in _read(plan, "longest", plan.groups):
        if len(cut) < TOP:
            cut.setdefault(row["digest"], row)
    common: list[dict[str, Any]] = []
    for row in _read(plan, "frequent", plan.partitions):
        known = [p for p in common if p["doc_key"] == row["doc_key"] and p["measure"] == row["measure"]]
        near = next((p for p in known if row["first"] <= p["last"] and p["first"] <= row["last"]), None)
        if near is not None:
            near |= {"first": min(near["first"], row["first"]), "last": max(near["last"], row["last"])}
        elif len(common) < TOP:
            common.append(row)
    texts = read_texts(plan, {row["doc_key"] for row in [*cut.values(), *common]})
    return {
        "unit": plan.config.substring.unit,
        "longest": [
            {"bytes": p["measure"], "text": _shown(texts[p["doc_key"]].encode(), p["first"], p["last"])}
            for p in cut.values()
        ],
        "most_frequent": [_frequent(texts[p["doc_key"]], p, plan) for p in common],
    }


def _read(plan: Plan, name: str, files: int) -> list[dict[str, Any]]:
    """Rows of all files in the order in which they are shown; the best of each file are enough."""
    tables = storage.in_order(storage.read_parquet, [plan.file(name, i, "parquet") for i in range(files)])
    best: list[dict[str, Any]] = []
    for table in tables:
        best = sorted(best + table.to_pylist(), key=lambda r: (-r["measure"], r["doc_key"], r["first"]))
        best = best[: TOP * MORE * 10]
    return best


def _frequent(text: str, row: dict[str, Any], plan: Plan) -> dict[str, Any]:
    array = pa.array([text], pa.large_string())
    units = (np.array([row[name]]) for name in ("first", "last"))
    starts, stops = unit_cuts(array, plan.config.substring.unit, np.zeros(1, np.int64), *units)
    shown = _shown(text.encode(), int(starts[0]), int(stops[0]))
    return {"occurrences": row["measure"], "units": row["last"] - row["first"], "text": shown}


def _shown(text: bytes, start: int, stop: int) -> str:
    return text[start:stop].decode(errors="replace").strip()[:TEXT_CHARACTERS]
