"""What the quality classifier is trained on: documents of the reference sources, a seeded sample of the raw ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xxhash

from raypt.corpus.config import CorpusConfig
from raypt.corpus.manifest import Manifest
from raypt.corpus.reader import read_shard
from raypt.curation.language import LanguageConfig, identify
from raypt.tasks import run_tasks
from raypt.text.buffers import TextBatch

BYTES_A_DOCUMENT = 4096
"""Assumed size of a document when the number of shards to read is chosen (web pages: 2-5 kB of text)."""
MIN_SHARDS = 16


@dataclass(frozen=True)
class _Task:
    manifest: Manifest
    shard: int
    corpus: CorpusConfig
    language: LanguageConfig
    run_uri: str
    max_documents: int
    columns: tuple[str, ...]


def choose_shards(manifest: Manifest, max_documents: int, seed: int) -> list[int]:
    """Shards to sample: all of a small corpus, else enough for `max_documents`, drawn by a seeded hash, every source
    among them."""
    order = sorted(range(len(manifest.shards)), key=lambda s: xxhash.xxh3_64_intdigest(f"{seed}:{s}".encode()))
    first_of_source = {manifest.shards[s].source: s for s in reversed(order)}
    chosen = list(first_of_source.values())
    size = 0
    for shard in order:
        if len(chosen) >= MIN_SHARDS and size >= max_documents * BYTES_A_DOCUMENT:
            break
        if shard not in chosen:
            chosen.append(shard)
        size += sum(piece.size for piece in manifest.shards[shard].pieces)
    return sorted(chosen)


def _read(task: _Task) -> pa.Table:
    parts, count = [], 0
    for batch in read_shard(task.manifest, task.shard, task.corpus, task.run_uri):
        docs = batch.documents.select(["doc_key", "source", "url", "text", *task.columns])
        if "lang" not in task.columns:
            docs = docs.append_column("lang", _languages(batch.documents, task.language))
        parts.append(docs)
        count += docs.num_rows
        if count >= task.max_documents:
            break
    return pa.concat_tables(parts).slice(0, task.max_documents)


def _languages(docs: pa.Table, config: LanguageConfig) -> pa.Array:
    """string[n], as the stage `language` finds them."""
    given = None
    if config.trust_column and "lang" in docs.column_names:
        given = pa.concat_arrays(docs["lang"].chunks) if docs["lang"].num_chunks else pa.array([], pa.string())
    return identify(TextBatch.from_arrow(docs["text"].combine_chunks()), config, given)[0]


def sample_documents(
    manifest: Manifest,
    corpus: CorpusConfig,
    language: LanguageConfig,
    run_uri: str,
    *,
    max_documents: int,
    seed: int,
    columns: tuple[str, ...] = (),
) -> pa.Table:
    """Up to about `max_documents` documents (doc_key, source, url, text, lang), a function of manifest and seed.
    `columns`: further ones that every source carries along."""
    shards: Sequence[int] = choose_shards(manifest, max_documents, seed)
    each = int(np.ceil(max_documents / len(shards)))
    tasks = [_Task(manifest, s, corpus, language, run_uri, each, columns) for s in shards]
    return pa.concat_tables(run_tasks(_read, tasks, name="quality sample"))
