"""The loss of a model that knows only how frequent each token is: what a trained one must beat."""

import numpy as np

from raypt import storage
from raypt.tokens.store.files import Section, StoreShard, collection, shard_name, shard_uri

SHARDS, FEW_SHARDS, RUNS, FEW_RUNS = 16, 4, 16, 2
"""At most so many shards are read, and so many at least; those that are not read whole in so many places each: two a
section, but some in any case."""
LITTLE_BYTES = 64 << 20
"""Of shards that are read whole, a request each, however many samples they have: the parts of one are five."""


def unigram_entropy(uri: str, *, max_samples: int = 20000, little_bytes: int = LITTLE_BYTES) -> float:
    """Entropy in nats a token of the unigram distribution of the store at `uri`: of all of a small store, else of some
    of its shards spread over it. As many are read whole as have `little_bytes`; where one for each source and a few
    more are larger, of those header and index are read, and rows with about `max_samples` samples.
    """
    cards = collection(uri).read_cards()
    sections = {i: [Section(**s) for s in card.account["sections"]] for i, card in cards.items()}
    rows = {i: sum(s.rows for s in of) for i, of in sections.items()}
    there = sorted(i for i, n in rows.items() if n)
    sources = len({s.source for of in sections.values() for s in of})
    few, most_shards = min(max(FEW_SHARDS, sources), SHARDS), min(SHARDS, len(there))
    for count in range(most_shards, min(few, most_shards) - 1, -1):
        chosen = [there[i * len(there) // count] for i in range(count)]
        if little := sum(cards[i].files[shard_name(i)].size for i in chosen) <= little_bytes:
            break
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
