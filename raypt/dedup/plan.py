"""What one deduplication works on, how it is divided among tasks, and where each pass keeps its files.

Everything a task needs is in one plan file, so a task item is (plan URI, number). The directory of the passes is named
by a fingerprint of the parameters and of every input file: a changed configuration or input never meets stale files.

Map tasks take *groups* of consecutive shards, reduce tasks *partitions* of the hash range. A group has
`dedup.task_bytes` of text (up to eight times that in all but small corpora, 64 times on an object store), or one shard
that has more. There are at most MAP_TASKS groups, so that a reduce task reads at most that many files, in two range
requests each and many at a time: at 10^5 shards and 30 ms a request its 4,000 requests take 4 s. (A file a shard would
be 5 x 10^5 requests: 4 h one by one.)

What is done is found by one listing of each pass's files, before its tasks are sent out; a task does not look.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raypt import storage, written
from raypt.dedup.config import DedupConfig
from raypt.dedup.exchange import Layout, PartitionWriter, read_each, read_partition, stored_bytes
from raypt.dedup.normalise import TAKEN_OUT
from raypt.errors import UserError
from raypt.settings import Settings
from raypt.text.unicode import UNICODE_VERSION

TaskRunner = Callable[..., list[Any]]
"""`raypt.tasks.run_tasks`, or what is called like it: (function, items, *, name) -> results in order."""
Task = Callable[[tuple[str, int]], Any]
"""Of (plan URI, number of a group or a partition). Where its last file is, it is done."""
PASSES = "passes-"
"""How the directories of intermediate files are called, before the plan's key."""
FORMAT = 4
"""Version of the hash functions and of the files of an index; part of every fingerprint."""
LAYOUT = 1
"""Version of the intermediate files; part of the plan's key."""
MAP_TASKS = 2000
"""Most groups of shards: files of an exchange that a reduce task reads."""
BUSY, MORE_TEXT = 64, 8
"""Where there is text for so many groups, they have up to so many times `dedup.task_bytes`."""
FAR_AWAY, BUSY_FAR_AWAY, MORE_FAR_AWAY = 2, 8, 64
"""On an object store: times `dedup.task_bytes` at least; and as above. A group costs some thirteen requests of it,
whatever is in it."""
INSPECTORS = 16
"""Shards inspected at a time by one task, on an object store."""


@dataclass(frozen=True)
class DedupShard:
    """One file of documents (doc_key, text, and what else there is) and, if any, the decisions taken before.

    Documents whose decision (doc_key, reason) has a reason are already removed: they take no part.
    """

    index: int
    docs_uri: str
    decisions_uri: str | None = None


class PlannedShard(Settings):
    """A shard as found when the run began."""

    index: int
    docs_uri: str
    decisions_uri: str | None
    rows: int
    text_bytes: int
    """Of the text column, uncompressed, as its file encodes it."""
    stamp: str
    """Changes when the documents or the decisions file does."""


SHARDS = pa.schema(
    [
        ("index", pa.int64()),
        ("docs_uri", pa.string()),
        ("decisions_uri", pa.string()),
        ("rows", pa.int64()),
        ("text_bytes", pa.int64()),
        ("stamp", pa.string()),
    ]
)


class Generation(Settings):
    """What one run added to an index."""

    name: str
    partitions: int
    """A power of two."""
    shards: list[int]
    """The manifest's number of each of its shards."""
    bounds: list[int]
    """Its groups of shards, as `Plan.bounds`: a file of attributes each."""


@dataclass(frozen=True)
class Kind:
    """One exchange of a plan: map tasks write a file a group, its rows by partition; or the other way round."""

    name: str
    schema: pa.Schema
    to: Literal["partitions", "groups"]
    """What the rows are divided by; there is a file for each of the others."""


class Plan(Settings):
    """Everything the passes need to know."""

    config: DedupConfig
    work_uri: str
    source_priority: dict[str, int]
    partitions: int
    passes: dict[str, Any]
    """What decides the result of each pass that is switched on, by its section, in the order in which they run."""
    verdicts: tuple[str, ...]
    """The stages that leave verdicts (raypt.dedup.verdicts), in the order in which they run."""
    cuts: tuple[str, ...] = ()
    """Those of them that cut spans out of documents."""
    generations: tuple[Generation, ...] = ()
    """The generations of the index to compare with."""
    generation: str = ""
    """The name of the generation this run adds to the index."""
    rebuild: bool = False
    """The documents are those of the index itself: there is no text."""
    shards: list[int]
    """The manifest's number of each shard, ascending."""
    bounds: list[int]
    """Group g is the shards at positions [bounds[g], bounds[g + 1])."""
    stamps: str
    """Fingerprint of what `PlannedShard.stamp` says of each."""

    @functools.cached_property
    def parameters(self) -> str:
        """Fingerprint of what decides hash values; part of every file of hashes."""
        return fingerprint(hash_parameters(self.config))

    @functools.cached_property
    def key(self) -> str:
        """Fingerprint of everything that decides the result."""
        keep = (self.config.quality_column, sorted(self.source_priority.items()))
        decides = {
            "parameters": self.parameters,
            "layout": LAYOUT,
            "partitions": self.partitions,
            "keep": keep,
            "passes": self.passes,
            "measure": self.config.measure_s_curve,
            "index": [g.name for g in self.generations],
            "rebuild": self.rebuild,
            "shards": [self.shards, self.bounds, self.stamps],
        }
        return fingerprint(decides)

    @property
    def groups(self) -> int:
        """Groups of shards: map tasks."""
        return len(self.bounds) - 1

    @functools.cached_property
    def _indices(self) -> np.ndarray:
        return np.array(self.shards)

    def positions(self, doc_keys: np.ndarray) -> np.ndarray:
        """Position in `shards` of the shard of each doc_key."""
        return np.searchsorted(self._indices, doc_keys >> 32)

    def groups_of(self, doc_keys: np.ndarray) -> np.ndarray:
        """The group of each doc_key."""
        return np.searchsorted(self.bounds, self.positions(doc_keys), "right") - 1

    @property
    def indexed_shards(self) -> int:
        """Shards of the index."""
        return sum(len(g.shards) for g in self.generations)

    @property
    def passes_uri(self) -> str:
        return storage.join(self.work_uri, f"{PASSES}{self.key}")

    def file(self, kind: str, number: int, suffix: str = "arrow") -> str:
        return storage.join(self.passes_uri, kind, f"{number:05d}.{suffix}")

    def _files(self, kind: Kind) -> list[str]:
        return [self.file(kind.name, i) for i in range(self.groups if kind.to == "partitions" else self.partitions)]

    def layout(self, kind: Kind) -> Layout:
        return Layout(kind.schema, self.partitions if kind.to == "partitions" else self.groups, self.parameters)

    def writer(self, kind: Kind, number: int) -> PartitionWriter:
        return PartitionWriter(self.file(kind.name, number), self.layout(kind))

    def write(self, kind: Kind, number: int, table: pa.Table, by: np.ndarray) -> None:
        """One file of an exchange at once."""
        with self.writer(kind, number) as writer:
            writer.add(table, by)

    def read(self, kind: Kind, number: int) -> pa.Table:
        """The rows of a partition (or group) over all files of an exchange, in the order of the files."""
        return read_partition(self._files(kind), number, self.layout(kind))

    def read_each(self, kind: Kind, number: int) -> Iterator[pa.Table]:
        """As `read`, file by file."""
        return read_each(self._files(kind), number, self.layout(kind))

    def stored_bytes(self, kind: Kind, number: int) -> int:
        """Bytes of the rows of a partition (or group) over all files of an exchange; the rows are not read."""
        return stored_bytes(self._files(kind), number, self.layout(kind))

    @property
    def verifies(self) -> bool:
        """Whether components are checked against the text; a rebuild has none."""
        return self.config.fuzzy.enabled and self.config.fuzzy.verify != "none" and not self.rebuild

    @property
    def samples_uri(self) -> str:
        """The samples of the evaluation sets."""
        return storage.join(self.passes_uri, "samples.parquet")

    def removed(self, shard: int) -> str:
        """What the shard of this number in the manifest loses."""
        return storage.join(self.work_uri, "removed", f"shard-{shard:05d}.parquet")

    def sizes(self, shard: int) -> str:
        """Its documents that stand for others too: (doc_key, cluster_size); no file where there are none."""
        return storage.join(self.work_uri, "sizes", f"shard-{shard:05d}.parquet")

    def edits(self, shard: int) -> str:
        """What is cut from its documents."""
        return storage.join(self.work_uri, "edits", f"shard-{shard:05d}.parquet")

    @property
    def _shards_layout(self) -> Layout:
        return Layout(SHARDS, self.groups, self.key)

    @property
    def uri(self) -> str:
        return storage.join(self.passes_uri, "plan.json")

    def save(self, shards: Sequence[PlannedShard], *, new: bool = False) -> bool:
        """Write the plan, and its shards by group; whether it was not there before, nor anything else of its passes
        (`new`: this is known). The shards are written each time: the same decisions may lie elsewhere.
        """
        assert [s.index for s in shards] == self.shards
        new = new or not storage.is_file(self.uri)
        table = pa.Table.from_pylist([s.model_dump() for s in shards], schema=SHARDS)
        by_group = np.repeat(np.arange(self.groups), np.diff(self.bounds))
        with PartitionWriter(self.file("shards", 0), self._shards_layout) as writer:
            writer.add(table, by_group)
        if new:
            storage.write_json(self.uri, self.model_dump(mode="json"))
        return new

    def group(self, number: int) -> list[PlannedShard]:
        """The shards of a group."""
        rows = read_partition([self.file("shards", 0)], number, self._shards_layout)
        return [PlannedShard(**row) for row in rows.to_pylist()]


@functools.lru_cache(maxsize=4)
def load_plan(uri: str) -> Plan:
    """The plan at `uri`; its path holds its fingerprint, so it can be cached."""
    return Plan.model_validate(storage.read_json(uri))


@dataclass(frozen=True)
class Job:
    """A plan under way: what a pass runs its tasks with."""

    plan: Plan
    uri: str
    """Of the plan."""
    runner: TaskRunner
    new: bool
    """Whether nothing of it can be there yet."""

    def groups(self, function: Task, name: str, done: str, root: str | None = None) -> None:
        """Map: `function((plan URI, group))` for every group of shards that has no file of the kind `done` under `root`
        (of the passes).
        """
        self._missing(function, self.plan.groups, name, self.there(done, root))

    def partitions(
        self, function: Task, name: str, done: str, again: Task | None = None, root: str | None = None
    ) -> list[Any]:
        """Reduce: as `groups` for every partition. The results in order: of those that are done what `again` says of
        what they left, None without it.
        """
        results = self._missing(function, self.plan.partitions, name, self.there(done, root))
        if again is not None:
            there = [(self.uri, n) for n in range(self.plan.partitions) if n not in results]
            results |= {n: found for (_, n), found in zip(there, self.run(again, there, name), strict=True)}
        return [results.get(n) for n in range(self.plan.partitions)]

    def _missing(self, function: Task, count: int, name: str, there: Collection[int]) -> dict[int, Any]:
        items = [(self.uri, n) for n in range(count) if n not in there]
        return {n: found for (_, n), found in zip(items, self.run(function, items, name), strict=True)}

    def there(self, kind: str, root: str | None = None) -> set[int]:
        """The numbers of the files of a kind that are there: one listing, of 1,000 files a request."""
        if self.new and root is None:
            return set()
        names = storage.listdir(storage.join(root or self.plan.passes_uri, kind))
        return {int(name.partition(".")[0]) for name in names}

    def run(self, function: Callable[[Any], Any], items: Sequence[Any], name: str) -> list[Any]:
        return self.runner(functools.partial(_in_pass, function), items, name=f"dedup: {name}") if items else []


def _in_pass(function: Task, item: Any) -> Any:
    """A task of a pass. The files between passes are what a plan makes of a group or a partition, whoever makes them:
    one that this process has met has not changed.
    """
    with written.unchanging():
        return function(item)


def fingerprint(value: Any) -> str:
    """16 hexadecimal digits of a JSON value."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def hash_parameters(config: DedupConfig) -> dict[str, Any]:
    """What hash values depend on. Hashes made with other parameters never meet (design: a mix is refused)."""
    fuzzy, exact = config.fuzzy, config.exact
    bands, rows = fuzzy.layout
    minhash = None
    if fuzzy.enabled:
        normalise = fuzzy.normalise.model_dump(mode="json")
        if fuzzy.normalise.numbers == "zero" and fuzzy.normalise.punctuation not in TAKEN_OUT:
            normalise["zeros"] = "letters"  # before 29 November those of Thai, Lao, Khmer and Burmese were words
        minhash = [fuzzy.unit, normalise, fuzzy.ngram, fuzzy.num_perm, bands, rows, fuzzy.seed]
    return {
        "format": FORMAT,
        "unicode": UNICODE_VERSION,
        "fuzzy": minhash,
        "exact": exact.normalise if exact.enabled else None,
        "url": list(config.url.tracking) if config.url.enabled else None,
        "scope": config.scope,
    }


def group_bounds(
    text_bytes: Sequence[int], task_bytes: int, least: int = 1, busy: int = BUSY, more: int = MORE_TEXT
) -> list[int]:
    """`Plan.bounds` of shards with so much text: groups of about `least` times `task_bytes`, up to `more` times where
    that leaves `busy` of them, or as much more as at most MAP_TASKS of them need; where nothing is known of the text,
    of as many shards each. Pure.
    """
    n, total = len(text_bytes), sum(text_bytes)
    sizes = np.array(text_bytes, np.float64) if total else np.ones(n)
    each = max(least * task_bytes if total else 1, float(sizes.sum()) / MAP_TASKS)
    if total:
        each = max(each, min(total / busy, more * task_bytes))
    of = np.minimum((np.cumsum(sizes) - sizes / 2) // each, MAP_TASKS - 1)
    return [0, *(np.flatnonzero(np.diff(of)) + 1).tolist(), n]


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length()


def file_stamp(uri: str) -> list[Any]:
    """Size and version (etag or modification time) of a file; UserError if it is not there."""
    info = storage.info(uri)
    if info is None:
        raise UserError(f"{uri}: no such file, but deduplication was asked to read it")
    version = next(
        (info[k] for k in ("ETag", "etag", "mtime", "LastModified", "updated", "created") if k in info), None
    )
    return [uri, info["size"], str(version)]


def inspect_shard(shard: DedupShard) -> PlannedShard:
    """Rows, size and stamp of a shard. UserError for a missing file or a missing column."""
    stamps = [file_stamp(uri) for uri in (shard.docs_uri, shard.decisions_uri) if uri is not None]
    with storage.open_ranges(shard.docs_uri) as f:
        file = pq.ParquetFile(f)
        names, metadata = file.schema_arrow.names, file.metadata
    for needed in ("doc_key", "source", "text"):
        if needed not in names:
            raise UserError(f"{shard.docs_uri}: no column {needed!r}; it has {', '.join(names)}")
    size = column_bytes(metadata, "text")
    return PlannedShard(**vars(shard), rows=metadata.num_rows, text_bytes=size, stamp=fingerprint(stamps))


def column_bytes(metadata: pq.FileMetaData, name: str) -> int:
    """Uncompressed bytes of a column of a Parquet file."""
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    columns = (group.column(c) for group in groups for c in range(group.num_columns))
    return sum(c.total_uncompressed_size for c in columns if c.path_in_schema == name)


def inspect_shards(shards: Sequence[DedupShard]) -> list[PlannedShard]:
    """`inspect_shard` of each."""
    if storage.is_local(shards[0].docs_uri):
        return [inspect_shard(shard) for shard in shards]
    return storage.in_parallel(inspect_shard, shards, INSPECTORS)


def inspect(shards: Sequence[DedupShard | PlannedShard], runner: TaskRunner) -> list[PlannedShard]:
    """All shards as they are found, inspected in at most MAP_TASKS tasks; those that are known already as they are."""
    unknown = [shard for shard in shards if isinstance(shard, DedupShard)]
    found = iter(_inspected(unknown, runner))
    return [next(found) if isinstance(shard, DedupShard) else shard for shard in shards]


def _inspected(shards: Sequence[DedupShard], runner: TaskRunner) -> list[PlannedShard]:
    tasks = min(len(shards), MAP_TASKS)
    chunks = [shards[len(shards) * i // tasks : len(shards) * (i + 1) // tasks] for i in range(tasks)]
    return [shard for chunk in runner(inspect_shards, chunks, name="dedup: inspect") for shard in chunk]
