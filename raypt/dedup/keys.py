"""What makes documents equal by a key: exact and near duplicates.

Documents that share a key, of whichever kind, are one cluster, and so is what they connect (`raypt.dedup.clusters`).
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa

from raypt.dedup.config import DedupConfig
from raypt.dedup.exact import content_hashes
from raypt.dedup.exchange import Layout, PartitionWriter, partition_of, read_sections
from raypt.dedup.minhash import permutations
from raypt.dedup.plan import Kind, Plan
from raypt.dedup.shingles import sign
from raypt.dedup.tokenise import fuzzy_tokens


class Keyed:
    """Rows of documents by a key: documents that share one belong together."""

    section: ClassVar[str]
    kind: ClassVar[Kind]
    """Its exchange: the columns of `columns`, doc_key, and what else there is."""
    columns: ClassVar[tuple[str, ...]]
    """The uint64 columns that together are a key; the first chooses the partition."""

    def enabled(self, config: DedupConfig) -> bool:
        return bool(getattr(config, self.section).enabled)

    def partition(self, rows: pa.Table, partitions: int) -> np.ndarray:
        return partition_of(rows[self.columns[0]].to_numpy(), partitions)


class KeyMaker(Keyed):
    """A key made from the text of a document."""

    reason: ClassVar[str]
    """Of a document that is removed because another shares such a key."""

    @abstractmethod
    def rows(self, docs: pa.Table, salt: np.ndarray | None, config: DedupConfig) -> pa.Table:
        """The keys of documents (doc_key, text), as `kind` has them. Pure.

        `salt` (uint64[n]) is mixed into the keys of each document, so that those of different salts never meet.
        """


class ExactKeys(KeyMaker):
    """xxh3-128 of the normalised text."""

    section, reason, columns = "exact", "dedup.exact", ("hash_high", "hash_low")
    kind = Kind(
        "exact",
        pa.schema([("hash_high", pa.uint64()), ("hash_low", pa.uint64()), ("doc_key", pa.int64())]),
        "partitions",
    )

    def rows(self, docs: pa.Table, salt: np.ndarray | None, config: DedupConfig) -> pa.Table:
        hashes = content_hashes(docs["text"], config.exact.normalise)
        if salt is not None:
            hashes = hashes ^ salt[:, None]
        return pa.table([hashes[:, 0].copy(), hashes[:, 1].copy(), docs["doc_key"]], schema=self.kind.schema)


class FuzzyKeys(KeyMaker):
    """Bands of a MinHash signature."""

    section, reason, columns = "fuzzy", "dedup.fuzzy", ("hash",)
    kind = Kind("bands", pa.schema([("hash", pa.uint64()), ("doc_key", pa.int64())]), "partitions")

    def rows(self, docs: pa.Table, salt: np.ndarray | None, config: DedupConfig) -> pa.Table:
        fuzzy = config.fuzzy
        count, rows = fuzzy.layout
        perms = permutations(fuzzy.num_perm, fuzzy.seed)[:, : count * rows]
        tokens = fuzzy_tokens(docs["text"], fuzzy)
        _, bands, counts = sign(tokens, ngram=fuzzy.ngram, permutations=perms, bands=count, rows=rows)
        if salt is not None:
            bands = bands ^ salt[:, None]
        has_bands = counts > 0
        keys = np.repeat(docs["doc_key"].to_numpy()[has_bands], count)
        return pa.table([bands[has_bands].reshape(-1), keys], schema=self.kind.schema)


class UrlKeys(Keyed):
    """xxh3-128 of the normalised address, and what chooses among its versions."""

    section, columns = "url", ("hash_high", "hash_low")
    kind = Kind(
        "urls",
        pa.schema(
            [
                ("hash_high", pa.uint64()),
                ("hash_low", pa.uint64()),
                ("doc_key", pa.int64()),
                ("date", pa.int64()),
                ("priority", pa.int64()),
                ("quality", pa.float64()),
            ]
        ),
        "partitions",
    )


URL_KEYS = UrlKeys()
KEYS: tuple[KeyMaker, ...] = (ExactKeys(), FuzzyKeys())
"""In this order a removed document gets its reason: an exact copy is one, however near it is besides."""


KEYS_FILE = "keys"


def key_makers(config: DedupConfig) -> Sequence[KeyMaker]:
    """Those that are switched on."""
    return [maker for maker in KEYS if maker.enabled(config)]


def _layouts(plan: Plan) -> list[Layout]:
    return [plan.layout(maker.kind) for maker in key_makers(plan.config)]


def keys_writer(plan: Plan, group: int) -> PartitionWriter:
    """The file of a group's keys, a section for each of `key_makers`."""
    return PartitionWriter(plan.file(KEYS_FILE, group), *_layouts(plan))


def read_keys(plan: Plan, partition: int) -> list[pa.Table]:
    """The keys of a partition over all groups, a table for each of `key_makers`."""
    uris = [plan.file(KEYS_FILE, group) for group in range(plan.groups)]
    return read_sections(uris, partition, _layouts(plan))


def indexed_keys(config: DedupConfig) -> Sequence[Keyed]:
    """All keys that a run leaves in an index."""
    return [keyed for keyed in (URL_KEYS, *KEYS) if keyed.enabled(config)]


def source_salt(source: pa.ChunkedArray) -> np.ndarray:
    """uint64[n]: a hash of the source's name; with scope "source" it keeps the groups of different sources apart."""
    encoded = source.combine_chunks().dictionary_encode()
    names = content_hashes(encoded.dictionary.cast(pa.large_string()), "none")[:, 1]
    return np.asarray(names[encoded.indices.to_numpy()])
