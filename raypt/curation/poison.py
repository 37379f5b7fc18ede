"""Which records of a shard kill or hang the process that reads or tags them: the shard is gone through in children."""

import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

import pyarrow as pa

from raypt.corpus.config import CorpusConfig
from raypt.corpus.keys import row_of
from raypt.corpus.manifest import Manifest
from raypt.corpus.reader import Poison, batches, requests, shard_items
from raypt.corpus.records import Fault, Item, ReadRequest, Rows
from raypt.corpus.sandbox import ChildDied, Sandbox

FIRST_SECONDS = 900.0
"""A child's first call loads models and may compile kernels."""
LEAST_SECONDS = 30.0
MOST_FOUND = 1000


class Tags(Protocol):
    """What tags a table of documents."""

    def tag(self, docs: pa.Table) -> pa.Table: ...


_kept: dict[bytes, Tags] = {}


def _tag(factory: bytes, documents: pa.Table | None) -> None:
    """In the child: tag documents with the tagger that `factory` makes, and forget them. None: make the tagger only."""
    if factory not in _kept:
        _kept.clear()
        _kept[factory] = pickle.loads(factory)()
    if documents is not None:
        _kept[factory].tag(documents)


def _items(asked: list[tuple[str, ReadRequest]], poison: Poison) -> Iterator[tuple[int, Item | None]]:
    """In the child: what the readers yield."""
    yield from shard_items(asked, poison)


def _next_row(item: Item) -> int:
    if isinstance(item, Rows):
        return int(item.row + item.batch.num_rows)
    return item.row + (item.count if isinstance(item, Fault) else 1)


class _Search:
    """One look through a shard."""

    def __init__(
        self, manifest: Manifest, shard: int, corpus: CorpusConfig, run_uri: str, factory: Callable[[], Tags]
    ) -> None:
        self._manifest, self._shard, self._corpus, self._run_uri = manifest, shard, corpus, run_uri
        self._factory = pickle.dumps(factory)
        self._seconds = corpus.max_batch_seconds
        self._reading, self._tagging = Sandbox(), Sandbox()

    def close(self) -> None:
        self._reading.close()
        self._tagging.close()

    def step(self, known: Poison) -> Poison:
        """`known`, and the first record that is found to end a child; `known` itself if none does."""
        asked = requests(self._manifest, self._shard, self._corpus, self._run_uri, known)
        at = [0, 0]  # the piece, and the row in it that comes next

        def watched() -> Iterator[tuple[int, Item | None]]:
            for piece, item in self._reading.stream(_items, asked, known, seconds=self._seconds):
                at[:] = (piece + 1, 0) if item is None else (piece, _next_row(item))
                yield piece, item

        try:
            for batch in batches(watched(), self._manifest, self._shard, self._corpus, asked, known):
                row = self._killer(batch.documents)
                if row is not None:
                    return replace(known, documents=(*known.documents, row))
        except ChildDied:
            here = (at[0], at[1])
            if here in known.rows:  # it was left out and it died all the same: the way to what is behind is closed
                return replace(known, cuts=(*known.cuts, here))
            return replace(known, rows=(*known.rows, here))
        return known

    def _killer(self, documents: pa.Table) -> int | None:
        """Row in the shard of a document on which the tagger ends its process; None if there is none."""
        if not documents.num_rows or self._survives(documents):
            return None
        while documents.num_rows > 1:
            half = documents.num_rows // 2
            first, second = documents.slice(0, half), documents.slice(half)
            if self._survives(first):
                if self._survives(second):
                    return None  # only together: the worker's memory, not a document
                documents = second
            else:
                documents = first
        return int(row_of(documents["doc_key"].to_numpy())[0])

    def _survives(self, documents: pa.Table) -> bool:
        share = documents["text"].nbytes / self._corpus.batch_bytes
        seconds = None if self._seconds is None else max(LEAST_SECONDS, self._seconds * min(1.0, share))
        try:
            self._tagging.call(_tag, self._factory, None, seconds=FIRST_SECONDS)
            self._tagging.call(_tag, self._factory, documents.combine_chunks(), seconds=seconds)
        except ChildDied:
            return False
        return True


def find_poison(
    manifest: Manifest, shard: int, corpus: CorpusConfig, run_uri: str, factory: Callable[[], Any], known: Poison
) -> Poison:
    """`known`, and every other record of a shard that ends or hangs the process that reads it, or that tags it with the
    tagger `factory` makes."""
    search = _Search(manifest, shard, corpus, run_uri, factory)
    try:
        for _ in range(MOST_FOUND):
            found = search.step(known)
            if found == known:
                break
            known = found
        return known
    finally:
        search.close()
