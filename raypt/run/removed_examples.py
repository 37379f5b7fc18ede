"""Which removed documents the report shows, with what their rules measured of them: a few of each rule.

A few parts of a run, spread evenly over it, are looked at, whatever its size: by the task that writes them, which has
the documents at hand. What is shown depends on the keys of the documents alone.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt import storage
from raypt.artefact import Identity, hash_of
from raypt.curation.quality.threshold import uniform
from raypt.outside import shown
from raypt.run_dir import RunDir

MOST_PARTS = 24
"""Parts that are looked at."""
PER_RULE = 3
MOST_RULES = 40
"""Rules that are shown, the most frequent in the parts looked at first."""
EXCERPT_CHARS = 700
EXCERPT_LINES = 14
FILE = ("work", "removed.json")

Item = TypeVar("Item")


@dataclass(frozen=True)
class Removed:
    """A removed document as removed/ has it."""

    shard: int
    doc_key: int
    id: str | None
    source: str
    reason: str
    row: dict[str, Any] | None = field(default=None, compare=False)
    """As it was tagged, its text cut to an excerpt; None where that is not at hand."""


@dataclass
class Looked:
    """What the parts of removed/ that were looked at hold."""

    chosen: dict[str, list[Removed]] = field(default_factory=dict)
    """By rule, at most PER_RULE."""
    counts: Counter[str] = field(default_factory=Counter)
    """Removed documents by rule."""
    parts: int = 0
    unreadable: list[str] = field(default_factory=list)
    """What could not be read, and why."""


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, evenly spaced, the first among them."""
    return [items[i * len(items) // min(most, len(items))] for i in range(min(most, len(items)))]


class Part:
    """What was removed of one shard, and those of each rule that may be shown: with the lowest hashes of their keys,
    whatever the order they come in.
    """

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.counts: Counter[str] = Counter()
        self.best: dict[str, list[tuple[float, Removed]]] = {}

    def add(self, docs: pa.Table, reason: pa.Array | pa.ChunkedArray, *, rows: bool) -> None:
        """Documents, and why each was removed (null: it was not). `rows`: as `Removed.row` they are at hand."""
        gone = docs.append_column("reason", reason).filter(pc.is_valid(reason))
        if not gone.num_rows:
            return
        keys = gone["doc_key"].to_numpy()
        rank, reasons = uniform(keys, 0), gone["reason"].combine_chunks().dictionary_encode()
        codes = reasons.indices.to_numpy()
        order = np.lexsort((rank, codes))
        starts = np.searchsorted(codes[order], np.arange(len(reasons.dictionary) + 1))
        for code, rule in enumerate(reasons.dictionary.to_pylist()):
            self.counts[rule] += int(starts[code + 1] - starts[code])
            places = order[starts[code] : starts[code + 1]][:PER_RULE]
            found = self.best.get(rule, [])
            for place, row in zip(places, gone.take(pa.array(places)).to_pylist(), strict=True):
                own = _as_json(row) if rows else None
                document = Removed(self.shard, row["doc_key"], row["id"], row["source"], rule, own)
                found.append((float(rank[place]), document))
            self.best[rule] = sorted(found, key=_place)[:PER_RULE]


def _place(entry: tuple[float, Removed]) -> tuple[float, int]:
    return entry[0], entry[1].doc_key


def _as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    return dict(json.loads(json.dumps({**row, "text": excerpt(row["text"])}, default=str)))


def excerpt(document: str) -> str:
    """The beginning of a text, with what is not printable escaped."""
    lines = document[:EXCERPT_CHARS].splitlines()
    cut = len(document) > EXCERPT_CHARS or len(lines) > EXCERPT_LINES
    return "\n".join(shown(line, EXCERPT_CHARS) for line in lines[:EXCERPT_LINES]) + (" …" if cut else "")


def chosen(parts: Iterable[Part]) -> Looked:
    """What is shown of these parts."""
    out = Looked()
    ranked: dict[str, list[tuple[float, Removed]]] = {}
    for part in parts:
        out.parts += 1
        out.counts += part.counts
        for rule, found in part.best.items():
            ranked.setdefault(rule, []).extend(found)
    for rule, _ in sorted(out.counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_RULES]:
        out.chosen[rule] = [document for _, document in sorted(ranked[rule], key=_place)[:PER_RULE]]
    return out


def keep(run: RunDir, wanted: Sequence[Identity], parts: Mapping[int, Part]) -> None:
    """Leave what the parts hold that were written in this start, by shard, for the pages of the run, whose curated
    shards are to be `wanted`. Where others of those that are looked at were there, what is left is what an earlier
    start said of the same ones; or nothing, and a page reads them all.
    """
    looked_at = spread(range(len(wanted)), MOST_PARTS)
    uri, key = run.path(*FILE), hash_of([wanted[shard].key for shard in looked_at])
    if set(looked_at) <= parts.keys():
        looked = chosen(parts.values())
        documents = [asdict(document) for of in looked.chosen.values() for document in of]
        counts = {"parts": looked.parts, "shards": len(wanted), "counts": looked.counts}
        storage.write_json(uri, {"of": key, **counts, "documents": documents})
    elif parts and not run.new and (storage.read_json_if_there(uri) or {}).get("of") != key:
        storage.remove_file(uri)


def kept(run: RunDir) -> tuple[Looked, int] | None:
    """What `keep` left, and how many shards the run has; None if it left nothing."""
    if (data := storage.read_if_there(run.path(*FILE))) is None:
        return None
    value = storage.json_of(data, run.path(*FILE))
    out = Looked(counts=Counter(value["counts"]), parts=value["parts"])
    for document in value["documents"]:
        out.chosen.setdefault(document["reason"], []).append(Removed(**document))
    return out, value["shards"]
