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
from raypt.dedup.exchange import partition_of
from raypt.dedup.minhash import permutations
from raypt.dedup.plan import Kind
from raypt.dedup.shingles import sign
from raypt.dedup.tokenise import fuzzy_tokens


class KeyMaker:
    """A kind of key: documents that share one belong together."""

    section: ClassVar[str]
    reason: ClassVar[str]
    kind: ClassVar[Kind]
    """Its exchange: the columns that together are a key, uint64, the first of which chooses the partition; doc_key."""

    def enabled(self, config: DedupConfig) -> bool:
        return bool(getattr(config, self.section).enabled)

    @classmethod
    def columns(cls) -> list[str]:
        """The columns that together are a key."""
        return [name for name in cls.kind.schema.names if name != "doc_key"]

    @abstractmethod
    def rows(self, docs: pa.Table, salt: np.ndarray | None, config: DedupConfig) -> pa.Table:
        """The keys of documents (doc_key, text), as `kind` has them. Pure.

        `salt` (uint64[n]) is mixed into the keys of each document, so that those of different salts never meet.
        """

    def partition(self, rows: pa.Table, partitions: int) -> np.ndarray:
        return partition_of(rows[self.columns()[0]].to_numpy(), partitions)


class ExactKeys(KeyMaker):
    """xxh3-128 of the normalised text."""

    section, reason = "exact", "dedup.exact"
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

    section, reason = "fuzzy", "dedup.fuzzy"
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


KEYS: tuple[KeyMaker, ...] = (ExactKeys(), FuzzyKeys())
"""In this order a removed document gets its reason: an exact copy is one, however near it is besides."""


def key_makers(config: DedupConfig) -> Sequence[KeyMaker]:
    """Those that are switched on."""
    return [maker for maker in KEYS if maker.enabled(config)]


def source_salt(source: pa.ChunkedArray) -> np.ndarray:
    """uint64[n]: a hash of the source's name; with scope "source" it keeps the groups of different sources apart."""
    encoded = source.combine_chunks().dictionary_encode()
    names = content_hashes(encoded.dictionary.cast(pa.large_string()), "none")[:, 1]
    return np.asarray(names[encoded.indices.to_numpy()])
