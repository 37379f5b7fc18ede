"""What the passes decide: documents to remove and bytes to cut, by group of shards, one file a stage.

A stage decides about the documents that no stage before it removed. The last pass joins the verdicts of all.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt import storage
from raypt.dedup.plan import Plan
from raypt.kernels import kernel
from raypt.text.buffers import string_buffers

REMOVED = pa.schema([("doc_key", pa.int64()), ("reason", pa.string()), ("cluster_id", pa.int64())])
"""A removed document and for whose sake: the name of its cluster, its own doc_key where it goes for itself. A stage may
write more columns, and rows of documents that it keeps: those where its column `kept` is true."""
EDITS = pa.schema([("doc_key", pa.int64()), ("starts", pa.list_(pa.int64())), ("stops", pa.list_(pa.int64()))])
"""What is cut from a document: bytes [start, stop) of its UTF-8 text, in order, apart from each other."""
REMAINDER = "dedup.remainder"
"""Why a document goes of which cuts leave too little."""


def removed_uri(plan: Plan, stage: str, group: int) -> str:
    return plan.file(f"{stage}-removed", group, "parquet")


def cuts_uri(plan: Plan, stage: str, group: int) -> str:
    return plan.file(f"{stage}-cuts", group, "parquet")


def alone(doc_keys: pa.Array | pa.ChunkedArray | np.ndarray, reason: str) -> pa.Table:
    """REMOVED rows of documents that are removed for themselves, not for another one's sake."""
    columns = [doc_keys, pa.array([reason] * len(doc_keys), pa.string()), doc_keys]
    return pa.table(columns, names=REMOVED.names).cast(REMOVED)


def _before(stages: tuple[str, ...], stage: str | None) -> Iterator[str]:
    for name in stages:
        if name == stage:
            return
        yield name


def verdicts(plan: Plan, group: int, before: str | None = None) -> dict[str, pa.Table]:
    """What the stages that run before `before`, or all, wrote at `removed_uri`."""
    stages = list(_before(plan.verdicts, before))
    tables = storage.in_parallel(lambda name: storage.read_parquet(removed_uri(plan, name, group)), stages)
    return dict(zip(stages, tables, strict=True))


def removals(tables: Iterable[pa.Table]) -> pa.Table:
    """REMOVED of `verdicts`; no document is in it twice. Pure."""
    lost = (table.filter(pc.invert(table["kept"])) if "kept" in table.column_names else table for table in tables)
    return pa.concat_tables([REMOVED.empty_table(), *(table.select(REMOVED.names).cast(REMOVED) for table in lost)])


def gone(plan: Plan, group: int, before: str | None = None) -> np.ndarray:
    """int64[n]: the documents that the stages before `before`, or all, remove, sorted."""
    return np.sort(removals(verdicts(plan, group, before).values())["doc_key"].to_numpy())


def cuts(plan: Plan, group: int, before: str | None = None) -> list[tuple[str, pa.Table]]:
    """(stage, EDITS) of the stages that cut and run before `before`, or of all."""
    return [(name, storage.read_parquet(cuts_uri(plan, name, group))) for name in _before(plan.cuts, before)]


def intervals(edits: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(doc_key, start, stop int64[cuts]) of EDITS, a row a cut."""
    starts, stops = (edits[name].combine_chunks() for name in ("starts", "stops"))
    if isinstance(starts, pa.ChunkedArray):  # no rows, no chunk
        return (np.zeros(0, np.int64),) * 3
    keys = np.repeat(edits["doc_key"].to_numpy(), starts.value_lengths().to_numpy())
    return keys, starts.flatten().to_numpy(), stops.flatten().to_numpy()


@kernel
def _union(keys: Any, starts: Any, stops: Any, gap: int) -> int:
    """Merge the sorted intervals in place; how many are left."""
    n = 0
    for i in range(keys.shape[0]):
        if n and keys[i] == keys[n - 1] and starts[i] <= stops[n - 1] + gap:
            stops[n - 1] = max(stops[n - 1], stops[i])
        else:
            keys[n], starts[n], stops[n] = keys[i], starts[i], stops[i]
            n += 1
    return n


def join_intervals(
    keys: np.ndarray, starts: np.ndarray, stops: np.ndarray, gap: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intervals of keys, in any order, as ones in order with more than `gap` between them; empty ones are left out."""
    order = np.lexsort((stops, starts, keys))
    order = order[starts[order] < stops[order]]
    keys, starts, stops = keys[order], starts[order], stops[order]
    n = _union(keys, starts, stops, gap)
    return keys[:n], starts[:n], stops[:n]


def make_edits(keys: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> pa.Table:
    """EDITS of cuts in any order, overlapping or not; empty ones are left out. doc_keys come out ascending."""
    keys, starts, stops = join_intervals(keys, starts, stops)
    n = len(keys)
    first = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[:n])
    bounds = pa.array(np.append(first, n).astype(np.int32))
    lists = [pa.ListArray.from_arrays(bounds, pa.array(v)) for v in (starts, stops)]
    return pa.Table.from_arrays([pa.array(keys[first]), *lists], schema=EDITS)


def union(tables: list[pa.Table]) -> pa.Table:
    """EDITS that cut what any of `tables` cuts."""
    parts = zip(*(intervals(table) for table in [EDITS.empty_table(), *tables]), strict=True)
    return make_edits(*(np.concatenate(part) for part in parts))


def edited_bytes(edits: pa.Table) -> np.ndarray:
    """int64[n]: the bytes cut from each document of EDITS."""
    keys, starts, stops = intervals(edits)
    totals = np.zeros(edits.num_rows, np.int64)
    np.add.at(totals, np.searchsorted(edits["doc_key"].to_numpy(), keys), stops - starts)
    return totals


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
    _, firsts, lasts = intervals(edits)
    lengths = edits["starts"].combine_chunks().value_lengths().to_numpy() if edits.num_rows else []
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    out, ends = np.empty(int(texts[-1] - texts[0]), np.uint8), np.zeros(len(texts), np.int64)
    _remove(data, texts, firsts, lasts, bounds, out, ends)
    return pa.LargeStringArray.from_buffers(len(texts) - 1, pa.py_buffer(ends), pa.py_buffer(out[: ends[-1]]))
