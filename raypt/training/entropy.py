"""The loss of a model that knows only how frequent each token is: what a trained one must beat."""

import numpy as np

from raypt.tokens.store.files import TokenStore


def unigram_entropy(store: TokenStore, *, max_samples: int = 20000) -> float:
    """Entropy in nats a token of the store's unigram distribution, over its first `max_samples` samples' targets."""
    counts = np.zeros(0, np.int64)
    left = max_samples
    for shard in store.shards():
        rows = np.arange(min(store.shard(shard).rows, left), dtype=np.int64)
        if rows.size == 0:
            continue
        tokens, segments = store.shard(shard).read(rows)
        valid = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] != 0)
        here = np.bincount(tokens[:, 1:][valid].astype(np.int64), minlength=counts.size)
        here[: counts.size] += counts
        counts = here
        left -= rows.size
    p = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(p * np.log(p)).sum())
