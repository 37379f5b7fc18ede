"""A seeded sample of the curated text, spread over sources and languages."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from raypt.tokens.config import TokenizerConfig
from raypt.tokens.order import hash_array, key_of
from raypt.tokens.parts import PartSummary, column, read_batches


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


def sample_batches(uri: str, rates: dict[tuple[str, str], float], seed: int) -> Iterator[pa.RecordBatch]:
    """The documents of a part that the sample takes, in order: a seeded hash of the key decides."""
    for batch in read_batches(uri, ["doc_key", "source", "lang", "text"]):
        source, lang = (column(batch, c) for c in ("source", "lang"))
        rate = np.array([rates.get(k, 0.0) for k in zip(source.to_pylist(), lang.to_pylist(), strict=True)])
        keys = hash_array(np.asarray(batch.column("doc_key").cast(pa.int64())), key_of("tokenizer", seed))
        take = keys < (rate * float(1 << 63)).astype(np.uint64) * np.uint64(2)
        take |= rate >= 1.0
        yield batch.filter(pa.array(take))


def sample_part(uri: str, rates: dict[tuple[str, str], float], seed: int) -> list[str]:
    """The texts of a part that the sample takes, in order."""
    return [t for batch in sample_batches(uri, rates, seed) for t in column(batch, "text").to_pylist()]
