"""A seeded sample of the curated text, spread over sources and languages."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raypt import storage
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.order import hash_array, key_of
from raypt.tokens.parts import BATCH_ROWS, PartSummary, check_part, column
from raypt.tokens.tokenizer.bpe_words import WordCounts, WordTable
from raypt.tokens.tokenizer.byte_level import Splitting

SPARE = 8
"""Bytes of a (source, lang) in the parts that a sample is taken from, over the bytes taken."""
LEAST_PARTS = 256
"""Parts that a (source, lang) is sampled from, if it has so many: neighbours within a part are often alike."""


def sample_rates(summaries: Sequence[PartSummary], config: TokenizerConfig) -> dict[tuple[str, str], float]:
    """(source, lang) -> the share of its documents to sample, so that all add up to about `sample_bytes`.

    A group's quota is its share of the bytes to the power `sample_alpha`; what a small group cannot fill goes to the
    others.
    """
    sizes: dict[tuple[str, str], int] = {}
    for summary in summaries:
        for source, by_lang in summary.languages.items():
            for lang, n in by_lang.items():
                sizes[source, lang] = sizes.get((source, lang), 0) + n
    sizes = {k: n for k, n in sorted(sizes.items()) if n}
    rates: dict[tuple[str, str], float] = {}
    left = float(config.sample_bytes)
    open_ = dict(sizes)
    while open_:
        total = sum(n**config.sample_alpha for n in open_.values())
        full = [k for k, n in open_.items() if left * n**config.sample_alpha / total >= n]
        if not full:
            rates |= {k: left * n**config.sample_alpha / total / n for k, n in open_.items()}
            break
        for k in full:
            rates[k] = 1.0
            left -= open_.pop(k)
    return rates


@dataclass(frozen=True)
class Sample:
    """Which documents of a corpus make up a sample: of these parts, this share by (source, lang)."""

    parts: tuple[int, ...]
    rates: dict[tuple[str, str], float]


def plan_sample(summaries: Sequence[PartSummary], config: TokenizerConfig, seed: int) -> Sample:
    """Sample from as few parts as hold enough: those that come first by a seeded hash of their number, until each
    (source, lang) has `SPARE` times its quota in at least `LEAST_PARTS` of them, or all that there is of it.

    A sample of 1 GB of 10 TB in 10^6 parts then reads some hundred parts and not all of them.
    """
    everywhere = sample_rates(summaries, config)
    wanted = {group: SPARE * rate if rate < 1.0 else 1.0 for group, rate in everywhere.items()}
    total: dict[tuple[str, str], int] = dict.fromkeys(everywhere, 0)
    sizes = [
        {(source, lang): n for source, by_lang in summary.languages.items() for lang, n in by_lang.items() if n}
        for summary in summaries
    ]
    for part in sizes:
        for group, n in part.items():
            total[group] += n
    chosen: list[int] = []
    have = dict.fromkeys(everywhere, 0)
    parts_with = dict.fromkeys(everywhere, 0)
    open_ = set(everywhere)
    order = np.argsort(hash_array(np.arange(len(sizes), dtype=np.int64), key_of("sampled parts", seed)), kind="stable")
    for part_index in order.tolist():
        if not open_:
            break
        part = sizes[part_index]
        if open_.isdisjoint(part):
            continue
        chosen.append(part_index)
        for group, n in part.items():
            have[group] += n
            parts_with[group] += 1
            enough = have[group] >= wanted[group] * total[group]
            if have[group] == total[group] or (everywhere[group] < 1.0 and enough and parts_with[group] >= LEAST_PARTS):
                open_.discard(group)
    rates = {group: min(1.0, rate * total[group] / max(have[group], 1)) for group, rate in everywhere.items()}
    return Sample(tuple(sorted(chosen)), rates)


_SOME = 0.01
"""Of a part of which so much is taken, there is some in each row group: all is fetched at once."""


def sample_batches(uri: str, rates: dict[tuple[str, str], float], seed: int) -> Iterator[pa.RecordBatch]:
    """The documents of a part that the sample takes, in order: a seeded hash of the key decides.

    Text is read of those row groups alone that have such documents.
    """
    with storage.open_parquet(uri, whole=max(rates.values(), default=0.0) >= _SOME) as file:
        there = check_part(uri, file.schema)
        names: list[str] = [name for name in ("doc_key", "source", "lang") if name in there]
        for group in range(file.num_row_groups):
            keys = file.read_row_group(group, names).combine_chunks()
            take = _taken(keys, rates, seed)
            if not take.any():
                continue
            whole = keys.append_column("text", file.read_row_group(group, ["text"])["text"].combine_chunks())
            yield from whole.filter(pa.array(take)).combine_chunks().to_batches(BATCH_ROWS)


def _taken(keys: pa.Table, rates: dict[tuple[str, str], float], seed: int) -> npt.NDArray[np.bool_]:
    out = [np.empty(0, np.bool_)]
    for batch in keys.to_batches():
        source, lang = (column(batch, c) for c in ("source", "lang"))
        rate = np.array([rates.get(k, 0.0) for k in zip(source.to_pylist(), lang.to_pylist(), strict=True)])
        hashes = hash_array(np.asarray(batch.column("doc_key").cast(pa.int64())), key_of("tokenizer", seed))
        out.append((hashes < (rate * float(1 << 63)).astype(np.uint64) * np.uint64(2)) | (rate >= 1.0))
    return np.concatenate(out)


def sample_part(uri: str, rates: dict[tuple[str, str], float], seed: int) -> list[str]:
    """The texts of a part that the sample takes, in order."""
    return [t for batch in sample_batches(uri, rates, seed) for t in column(batch, "text").to_pylist()]


def count_part(
    uri: str, rates: dict[tuple[str, str], float], seed: int, splitting: Splitting
) -> tuple[int, WordCounts]:
    """How many documents of a part the sample takes, and their words."""
    table, documents = WordTable(), 0
    for batch in sample_batches(uri, rates, seed):
        table.add_text(column(batch, "text"), splitting)
        documents += batch.num_rows
    return documents, table.counts()
