"""The loss of a model that knows only how frequent each token is: what a trained one must beat."""

import numpy as np

from raypt import storage
from raypt.tokens.store.files import Section, StoreShard, collection, shard_name, shard_uri

SHARDS, RUNS, FEW_RUNS = 16, 16, 2
"""At most so many shards are read, each in at most so many places: two a section, but some in any case."""
LITTLE_BYTES = 64 << 20
"""Of shards that are read whole, a request each, however many samples they have: the parts of one are seven."""


def unigram_entropy(uri: str, *, max_samples: int = 20000, little_bytes: int = LITTLE_BYTES) -> float:
    """Entropy in nats a token of the unigram distribution of the store at `uri`, over the targets of about
    `max_samples` samples: all of a small store, else some of `SHARDS` shards spread over it. Of those, header and index
    are read, and as many rows; all where they have `little_bytes` at most.
    """
    cards = collection(uri).read_cards()
    rows = {i: sum(Section(**s).rows for s in card.account["sections"]) for i, card in cards.items()}
    there = sorted(i for i, n in rows.items() if n)
    chosen = [there[i * len(there) // min(SHARDS, len(there))] for i in range(min(SHARDS, len(there)))]
    little = sum(cards[i].files[shard_name(i)].size for i in chosen) <= little_bytes
    share = 1.0 if little else min(1.0, max_samples / max(sum(rows[i] for i in chosen), 1))
    most = share > 0.5
    shards = storage.in_parallel(lambda i: StoreShard(shard_uri(uri, i), ranged=True, most=most), chosen)
    counts = np.zeros(0, np.int64)
    for shard in shards:
        runs = min(RUNS, max(FEW_RUNS, 2 * len(shard.sections)))
        tokens, segments = shard.read(spread(shard.rows, round(share * shard.rows), runs))
        valid = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] != 0)
        here = np.bincount(tokens[:, 1:][valid].astype(np.int64), minlength=counts.size)
        here[: counts.size] += counts
        counts = here
    p = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(p * np.log(p)).sum())


def spread(rows: int, wanted: int, runs: int = RUNS) -> np.ndarray:
    """int64: about `wanted` of so many rows, in at most `runs` runs at equal distances: all sections are met."""
    if wanted >= rows:
        return np.arange(rows, dtype=np.int64)
    runs = min(runs, max(wanted, 1))
    starts = np.arange(runs, dtype=np.int64) * rows // runs
    ends = starts + -(-wanted // runs)
    ends = np.minimum(ends, [*starts[1:], rows])
    return np.concatenate([np.arange(start, end) for start, end in zip(starts, ends, strict=True)])
