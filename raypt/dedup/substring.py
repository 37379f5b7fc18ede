"""Exact substrings: passages of a length that occur before are cut, wherever they begin and end (Lee et al. 2022).

A window is `length` consecutive units of a document. Of all windows of equal text the first, in the order of documents
and places, stays; what the others cover is cut. That is what a suffix array of the corpus finds, but by partition:

- every window has an anchor (raypt.dedup.winnow), a gram that windows of equal text share; the anchors of all documents
  meet by hash, and those that are alone are dismissed;
- the text around the others, their context, meets by the same hash and is compared (raypt.dedup.repeats);
- the cuts come back to each group of shards.

A partition of contexts is gone through a piece at a time, and what holds no first window is forgotten: of a notice in
10^8 pages a task keeps one context, and those at its ends. So documents must come in order, as files and rows do.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from raypt import storage
from raypt.dedup.base import Pass
from raypt.dedup.config import DedupConfig, SubstringConfig
from raypt.dedup.documents import read_group
from raypt.dedup.exchange import column, partition_of
from raypt.dedup.passages import PASSAGES, frequent, longest, passages_report
from raypt.dedup.plan import Job, Kind, load_plan
from raypt.dedup.repeats import count_windows, runs_of, same_bytes
from raypt.dedup.tokenise import tokenise
from raypt.dedup.units import Written, unit_cuts, unit_values, write_units
from raypt.dedup.verdicts import EDITS, REMAINDER, alone, cut_text, cuts_uri, join_intervals, make_edits, removed_uri
from raypt.dedup.winnow import anchors_a_unit, winnow
from raypt.kernels import kernel

STAGE, SUBSTRING = "substring", "dedup.substring"
_PLACE = [
    ("hash", pa.uint64()),
    ("doc_key", pa.int64()),
    ("first", pa.int64()),
    ("before", pa.int16()),
    ("windows", pa.int16()),
]
ANCHORS = Kind("anchors", pa.schema(_PLACE), "partitions")
CANDIDATES = Kind("candidates", pa.schema(_PLACE), "groups")
CONTEXTS = Kind("contexts", pa.schema([*_PLACE, ("text", pa.large_binary())]), "partitions")
COPIES = Kind("copies", pa.schema([("doc_key", pa.int64()), ("first", pa.int64()), ("last", pa.int64())]), "groups")
"""Units [first, last) of a document that occur before."""
OWN = "own-copies"
"""COPIES of what repeats within a few units of itself, found where the contexts are made."""
UNIT_BYTES = {"token": 5, "byte": 1}
"""Text of a token, about: 6 of English, 3 of Chinese."""
ANCHOR_BYTES = 140
"""Peak memory an anchor in a reduce task: its row, the sort of its hash, copies."""
CONTEXT_FACTOR = 12
"""Peak memory of a reduce task over the bytes of the contexts at hand: their units, windows and table."""


def anchor_group(item: tuple[str, int]) -> int:
    """Write the anchors of the documents of a group that are still there. Item: (plan URI, group)."""
    plan, group = load_plan(item[0]), item[1]
    config = plan.config.substring
    with plan.writer(ANCHORS, group) as writer:
        for docs in read_group(plan, group, ["doc_key", "text"], STAGE):
            found = winnow(*unit_values(docs["text"], config.unit), config.length)
            keys = docs["doc_key"].to_numpy()[found.docs]
            places = [pa.array(values.astype(np.int16)) for values in (found.before, found.windows)]
            rows = pa.table([found.hashes, keys, found.firsts, *places], schema=ANCHORS.schema)
            writer.add(rows, partition_of(found.hashes, plan.partitions))
    return writer.rows


def repeated(hashes: np.ndarray) -> np.ndarray:
    """bool[n]: which of the hashes another one equals. Pure."""
    marked = np.zeros(len(hashes), bool)
    order = np.argsort(hashes, kind="stable")
    equal = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    marked[order[equal]] = marked[order[equal + 1]] = True
    return marked


def match_anchors(item: tuple[str, int]) -> int:
    """Write the anchors of a partition that are not alone, by group. Item: (plan URI, partition)."""
    plan, partition = load_plan(item[0]), item[1]
    rows = plan.read(ANCHORS, partition)
    rows = rows.filter(pa.array(repeated(column(rows, "hash"))))
    plan.write(CANDIDATES, partition, rows, plan.groups_of(column(rows, "doc_key")))
    return int(rows.num_rows)


@kernel
def _repeat_themselves(
    data: Any, bounds: Any, offsets: Any, docs: Any, hashes: Any, firsts: Any, anchors: Any, units: Any, own: Any
) -> None:
    for c in range(1, docs.shape[0]):
        if docs[c] != docs[c - 1] or hashes[c] != hashes[c - 1]:
            continue
        shift = anchors[c] - anchors[c - 1]
        if firsts[c] < shift:
            continue
        at = offsets[docs[c]] + firsts[c]
        x, y = bounds[at], bounds[at - shift]
        size = bounds[at + units[c]] - x
        own[c] = size == bounds[at - shift + units[c]] - y and same_bytes(data, x, y, size)


@kernel
def _gather(data: Any, starts: Any, ends: Any, out: Any) -> None:
    n = 0
    for i in range(starts.shape[0]):
        for at in range(starts[i], ends[i]):
            out[n] = data[at]
            n += 1


def make_contexts(written: Written, docs: np.ndarray, places: pa.Table, length: int) -> tuple[pa.Table, np.ndarray]:
    """(CONTEXTS, bool[n]: which places are copies of the place before, and are left out). Pure.

    `places` (CANDIDATES) in order, the document of each in `written` as `docs`. The context of a place in a run of one
    period would hold the same text once a unit: where the place before it, of the same hash, has the same text, it says
    nothing new.
    """
    hashes, firsts = column(places, "hash"), column(places, "first")
    units = column(places, "windows").astype(np.int64) + length - 1
    own = np.zeros(len(docs), bool)
    anchors = firsts + column(places, "before")
    _repeat_themselves(written.data, written.bounds, written.offsets, docs, hashes, firsts, anchors, units, own)
    at = (written.offsets[docs] + firsts)[~own]
    starts, ends = written.bounds[at], written.bounds[at + units[~own]]
    texts = np.concatenate([[0], np.cumsum(ends - starts)]).astype(np.int64)
    gathered = np.empty(texts[-1], np.uint8)
    _gather(written.data, starts, ends, gathered)
    text = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(at), [None, pa.py_buffer(texts), pa.py_buffer(gathered)]
    )
    return places.filter(pa.array(~own)).append_column("text", text).cast(CONTEXTS.schema), own


def context_group(item: tuple[str, int]) -> int:
    """Write the contexts of the candidates of a group. Item: (plan URI, group)."""
    plan, group = load_plan(item[0]), item[1]
    config = plan.config.substring
    places = plan.read(CANDIDATES, group).sort_by([("doc_key", "ascending"), ("first", "ascending")])
    keys, own = column(places, "doc_key"), [COPIES.schema.empty_table()]
    with plan.writer(CONTEXTS, group) as writer:
        for docs, low, high in _with_rows(plan, group, keys):
            here = places.slice(low, high - low).combine_chunks()
            rows = np.searchsorted(docs["doc_key"].to_numpy(), keys[low:high])
            contexts, copied = make_contexts(write_units(docs["text"], config.unit), rows, here, config.length)
            writer.add(contexts, partition_of(column(contexts, "hash"), plan.partitions))
            first = column(here, "first")[copied]
            last = first + column(here, "windows")[copied] + config.length - 1
            own.append(pa.table([keys[low:high][copied], first, last], schema=COPIES.schema))
        storage.write_parquet(plan.file(OWN, group, "parquet"), pa.concat_tables(own))
    return writer.rows


def _with_rows(plan: Any, group: int, keys: np.ndarray) -> Any:
    """(documents of a group that have a row in `keys` (ascending), the bounds of their rows), a batch at a time."""
    for docs in read_group(plan, group, ["doc_key", "text"], STAGE):
        docs = docs.filter(pa.array(np.isin(docs["doc_key"].to_numpy(), keys)))
        if docs.num_rows:
            ends = docs["doc_key"].to_numpy()[[0, -1]]
            yield docs, int(np.searchsorted(keys, ends[0])), int(np.searchsorted(keys, ends[1], "right"))


class Seen:
    """The contexts of a partition so far that hold a first window, with the occurrences of each of their windows."""

    def __init__(self, config: SubstringConfig) -> None:
        self._config = config
        self.contexts = CONTEXTS.schema.empty_table()
        self.counts = np.zeros(0, np.int64)

    @property
    def windows(self) -> np.ndarray:
        """int64[n + 1]: where the windows of each context begin in `counts`."""
        return np.append(0, np.cumsum(column(self.contexts, "windows"), dtype=np.int64))

    def add(self, tables: list[pa.Table]) -> pa.Table:
        """COPIES among contexts that come behind all before them; they are remembered if they have something new."""
        known, length = self.contexts.num_rows, self._config.length
        self.contexts = pa.concat_tables([self.contexts, *tables]).combine_chunks()
        windows = self.windows
        self.counts = np.append(self.counts, np.ones(windows[-1] - len(self.counts), np.int64))
        hashes = column(self.contexts, "hash")
        text = self.contexts["text"].combine_chunks().view(pa.large_string())
        tokens = self._config.unit == "token"
        count_windows(text, windows, hashes, self.counts, length, tokens=tokens)
        copies = self.counts == 0
        copies[: windows[known]] = False
        runs = runs_of(copies, windows)
        places = column(self.contexts, "first")[runs.contexts]
        keys = column(self.contexts, "doc_key")[runs.contexts]
        found = pa.table([keys, places + runs.starts, places + runs.stops + length - 1], schema=COPIES.schema)
        self._forget(windows)
        return found

    def _forget(self, windows: np.ndarray) -> None:
        if self.contexts.num_rows:
            kept = np.maximum.reduceat(self.counts, windows[:-1]) > 0
            self.counts = self.counts[np.repeat(kept, np.diff(windows))]
            self.contexts = self.contexts.filter(pa.array(kept))


def compare_contexts(item: tuple[str, int]) -> int:
    """Write what of the contexts of a partition occurs before, by group. Item: (plan URI, partition)."""
    plan, partition = load_plan(item[0]), item[1]
    room = (plan.config.memory_mb << 20) // CONTEXT_FACTOR
    seen, waiting, nbytes = Seen(plan.config.substring), list[pa.Table](), 0
    with plan.writer(COPIES, partition) as writer:

        def compare() -> None:
            found = seen.add(waiting)
            writer.add(found, plan.groups_of(column(found, "doc_key")))
            waiting.clear()

        for table in plan.read_each(CONTEXTS, partition):
            if waiting and nbytes + table.nbytes > room:
                compare()
                nbytes = 0
            waiting.append(table)
            nbytes += table.nbytes
        compare()
        rows = frequent(seen.contexts, seen.windows, seen.counts, plan.config.substring.length)
        storage.write_parquet(plan.file("frequent", partition, "parquet"), rows)
    return writer.rows


def cut_substrings(docs: pa.Table, copies: pa.Table, config: SubstringConfig) -> tuple[pa.Table, pa.Array, pa.Table]:
    """(EDITS of the documents that stay, doc_keys of those of which too little is left, PASSAGES of the longest cuts).

    `docs` (doc_key, text) and what of them occurs before (COPIES). Pure.
    """
    keys = docs["doc_key"].to_numpy()
    of, first, last = (column(copies, name) for name in COPIES.schema.names)
    of, first, last = join_intervals(of, first, last, config.merge_gap)
    rows = np.searchsorted(keys, of)
    starts, stops = unit_cuts(docs["text"], config.unit, rows, first, last)
    edits = make_edits(of, starts, stops)
    docs = docs.filter(pa.array(np.isin(keys, edits["doc_key"].to_numpy())))
    short = tokenise(cut_text(docs["text"], edits)).counts < (config.min_words or 1)
    gone = docs["doc_key"].to_numpy()[short]
    return edits.filter(pa.array(~short)), pa.array(gone), longest(docs, edits)


def cut_group(item: tuple[str, int]) -> int:
    """Write the cuts of a group, and the documents of which too little is left. Item: (plan URI, group)."""
    plan, group = load_plan(item[0]), item[1]
    own = storage.read_parquet(plan.file(OWN, group, "parquet"))
    copies = pa.concat_tables([plan.read(COPIES, group), own]).sort_by("doc_key")
    keys = column(copies, "doc_key")
    edits, short, passages = [EDITS.empty_table()], [pa.array([], pa.int64())], [PASSAGES.empty_table()]
    for docs, low, high in _with_rows(plan, group, keys):
        kept, gone, cut = cut_substrings(docs, copies.slice(low, high - low), plan.config.substring)
        edits.append(kept)
        short.append(gone)
        passages.append(cut)
    storage.write_parquet(plan.file("longest", group, "parquet"), pa.concat_tables(passages))
    storage.write_parquet(cuts_uri(plan, STAGE, group), pa.concat_tables(edits))
    storage.write_parquet(removed_uri(plan, STAGE, group), alone(pa.chunked_array(short), REMAINDER))
    return group


class Substring(Pass):
    """Passages that occur before, word for word, are cut."""

    stage = STAGE
    sections = (STAGE,)
    reasons = (SUBSTRING, REMAINDER)
    edits = "spans"

    def reduce_bytes(self, config: DedupConfig, rows: int, text_bytes: int) -> int:
        anchors = text_bytes / UNIT_BYTES[config.substring.unit] * anchors_a_unit(config.substring.length)
        return int(anchors * ANCHOR_BYTES)

    def run(self, job: Job) -> dict[str, Any]:
        job.groups(anchor_group, "anchors", ANCHORS.name)
        job.partitions(match_anchors, "match", CANDIDATES.name)
        job.groups(context_group, "contexts", CONTEXTS.name)
        job.partitions(compare_contexts, "compare", COPIES.name)
        job.groups(cut_group, "cut substrings", f"{STAGE}-removed")
        return {STAGE: passages_report(job.plan)}
