"""What one deduplication works on, and where each pass keeps its files.

Everything a task needs is in one plan file, so a task item is (plan URI, number). The directory of the passes is named
by a fingerprint of the parameters and of every input file: a changed configuration or input never meets stale files.
"""

import functools
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from raypt import storage
from raypt.dedup.config import DedupConfig
from raypt.errors import UserError
from raypt.settings import Settings
from raypt.text.unicode import UNICODE_VERSION

TaskRunner = Callable[..., list[Any]]
"""`raypt.tasks.run_tasks`, or what is called like it: (function, items, *, name) -> results in order."""
PASSES = "passes-"
"""How the directories of intermediate files are called, before the plan's key."""
FORMAT = 2
"""Version of the intermediate files and hash functions; part of every fingerprint."""
BAND_ROW_BYTES = 16
SORT_FACTOR = 5
"""Peak memory of a reduce task over the bytes of its rows: rows, sort order, sorted copies, edges."""


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
    stamp: str
    """Changes when the documents or the decisions file does."""


class Generation(Settings):
    """What one run added to an index."""

    name: str
    partitions: int
    """A power of two."""
    shards: list[int]
    """The manifest's number of each of its shards."""


class Plan(Settings):
    """Everything the passes need to know."""

    config: DedupConfig
    work_uri: str
    source_priority: dict[str, int]
    partitions: int
    evaluation: str | None = None
    """Fingerprint of the evaluation files to decontaminate against; None: there are none."""
    generations: tuple[Generation, ...] = ()
    """The generations of the index to compare with."""
    generation: str = ""
    """The name of the generation this run adds to the index."""
    rebuild: bool = False
    """The documents are those of the index itself: there is no text."""
    shards: list[PlannedShard]

    @functools.cached_property
    def parameters(self) -> str:
        """Fingerprint of what decides hash values; stored in every file of hashes."""
        return fingerprint(hash_parameters(self.config))

    @functools.cached_property
    def key(self) -> str:
        """Fingerprint of everything that decides the result."""
        shards = [(s.index, s.stamp) for s in self.shards]
        contamination = [self.config.contamination.model_dump(), self.evaluation] if self.evaluation else None
        keep = (self.config.quality_column, sorted(self.source_priority.items()))
        verify = (self.config.fuzzy.verify, self.config.fuzzy.verify_threshold) if self.verifies else None
        sentences = self.config.sentences.model_dump() if self.config.sentences.enabled else None
        return fingerprint(
            {
                "parameters": self.parameters,
                "partitions": self.partitions,
                "keep": keep,
                "verify": verify,
                "sentences": sentences,
                "contamination": contamination,
                "measure": self.config.measure_s_curve,
                "index": [g.name for g in self.generations],
                "rebuild": self.rebuild,
                "shards": shards,
            }
        )

    @property
    def indexed_shards(self) -> int:
        """Shards of the index."""
        return sum(len(g.shards) for g in self.generations)

    @property
    def passes_uri(self) -> str:
        return storage.join(self.work_uri, f"{PASSES}{self.key}")

    def file(self, kind: str, number: int, suffix: str = "arrow") -> str:
        return storage.join(self.passes_uri, kind, f"{number:05d}.{suffix}")

    def positions(self, doc_keys: np.ndarray) -> np.ndarray:
        """Position in `shards` of the shard of each doc_key."""
        return np.searchsorted(np.array([s.index for s in self.shards]), doc_keys >> 32)

    @property
    def verifies(self) -> bool:
        """Whether components are checked against the text; a rebuild has none."""
        return self.config.fuzzy.enabled and self.config.fuzzy.verify != "none" and not self.rebuild

    @property
    def labels_uri(self) -> str:
        """How many files of labels there are; written when they are all there."""
        return storage.join(self.passes_uri, "labels.json")

    @property
    def samples_uri(self) -> str:
        """The samples of the evaluation sets."""
        return storage.join(self.passes_uri, "samples.parquet")

    def removed(self, shard: PlannedShard) -> str:
        return storage.join(self.work_uri, "removed", f"shard-{shard.index:05d}.parquet")

    def edits(self, shard: PlannedShard) -> str:
        return storage.join(self.work_uri, "edits", f"shard-{shard.index:05d}.parquet")

    def save(self) -> str:
        uri = storage.join(self.passes_uri, "plan.json")
        if not storage.exists(uri):
            storage.write_json(uri, self.model_dump(mode="json"))
        return uri


@functools.lru_cache(maxsize=4)
def load_plan(uri: str) -> Plan:
    """The plan at `uri`; its path holds its fingerprint, so it can be cached."""
    return Plan.model_validate(storage.read_json(uri))


def fingerprint(value: Any) -> str:
    """16 hexadecimal digits of a JSON value."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def hash_parameters(config: DedupConfig) -> dict[str, Any]:
    """What hash values depend on. Hashes made with other parameters never meet (design: a mix is refused)."""
    fuzzy, exact = config.fuzzy, config.exact
    bands, rows = fuzzy.layout
    minhash = [fuzzy.unit, fuzzy.ngram, fuzzy.num_perm, bands, rows, fuzzy.seed] if fuzzy.enabled else None
    return {
        "format": FORMAT,
        "unicode": UNICODE_VERSION,
        "fuzzy": minhash,
        "exact": exact.normalise if exact.enabled else None,
        "scope": config.scope,
    }


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length()


def file_stamp(uri: str) -> list[Any]:
    """Size and version (etag or modification time) of a file; UserError if it is not there."""
    fs, path = storage.filesystem(uri)
    try:
        info = fs.info(path)
    except FileNotFoundError:
        raise UserError(f"{uri}: no such file, but deduplication was asked to read it") from None
    version = next(
        (info[k] for k in ("ETag", "etag", "mtime", "LastModified", "updated", "created") if k in info), None
    )
    return [uri, info["size"], str(version)]


def inspect_shard(shard: DedupShard) -> PlannedShard:
    """Rows and stamp of a shard. UserError for a missing file or a missing column."""
    stamps = [file_stamp(uri) for uri in (shard.docs_uri, shard.decisions_uri) if uri is not None]
    with storage.open_read(shard.docs_uri) as f:
        file = pq.ParquetFile(f)
        names, rows = file.schema_arrow.names, file.metadata.num_rows
    for needed in ("doc_key", "source", "text"):
        if needed not in names:
            raise UserError(f"{shard.docs_uri}: no column {needed!r}; it has {', '.join(names)}")
    return PlannedShard(**vars(shard), rows=rows, stamp=fingerprint(stamps))


def choose_partitions(config: DedupConfig, rows: int) -> int:
    """Partitions so that the rows of one, with everything a reduce task makes of them, fit the memory of a task."""
    if config.partitions is not None:
        return config.partitions
    per_document = max(config.fuzzy.layout[0] if config.fuzzy.enabled else 0, 2)
    needed = rows * per_document * BAND_ROW_BYTES * SORT_FACTOR
    return min(max(1, math.ceil(needed / (config.memory_mb << 20))), 65536)
