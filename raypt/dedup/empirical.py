"""The S-curve as it is on this corpus: how often pairs of known Jaccard similarity share a band.

Pairs are taken from a sample of the clusters found, where similar documents are, and judged under other seeds than the
run's own: under its own they match because that is how they were chosen.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from raypt.dedup.config import FuzzyConfig
from raypt.dedup.documents import read_texts
from raypt.dedup.minhash import match_probability, permutations
from raypt.dedup.plan import Job, load_plan
from raypt.dedup.shingles import band_hashes, shingle, sketch
from raypt.dedup.tokenise import fuzzy_tokens

SEEDS = 10
MOST_SHINGLES = 20_000
"""Longer documents are left out of the sample."""


def group_shingles(item: tuple[str, tuple[int, ...]]) -> dict[int, np.ndarray]:
    """The set of shingles of some documents, by doc_key. Item: (plan URI, doc_keys of one group)."""
    plan, keys = load_plan(item[0]), item[1]
    texts, fuzzy = read_texts(plan, keys), plan.config.fuzzy
    hashes, offsets = shingle(fuzzy_tokens(pa.array(list(texts.values()), pa.large_string()), fuzzy), fuzzy.ngram)
    sets = {key: np.unique(hashes[offsets[i] : offsets[i + 1]]) for i, key in enumerate(texts)}
    return {key: found for key, found in sets.items() if 0 < len(found) <= MOST_SHINGLES}


def rates(groups: Sequence[Sequence[int]], sets: dict[int, np.ndarray], fuzzy: FuzzyConfig) -> list[dict[str, float]]:
    """By Jaccard similarity in steps of 0.05: pairs within `groups`, and the shares that match and that theory expects.

    `sets` gives the shingles of each document; pairs of a document without them are left out. Pure.
    """
    pairs = [pair for group in groups for pair in combinations([key for key in group if key in sets], 2)]
    if not pairs:
        return []
    keys = sorted({key for pair in pairs for key in pair})
    rows = np.searchsorted(np.array(keys), np.array(pairs, np.int64))
    sizes = np.array([len(sets[key]) for key in keys])
    shared = np.array([len(np.intersect1d(sets[a], sets[b], assume_unique=True)) for a, b in pairs])
    jaccard = shared / (sizes[rows].sum(axis=1) - shared)
    hashes, offsets = np.concatenate([sets[key] for key in keys]), np.append(0, np.cumsum(sizes))
    bands, width = fuzzy.layout
    matched = np.zeros(len(pairs))
    for seed in range(SEEDS):
        perms = permutations(bands * width, (fuzzy.seed + 1 + seed) % 2**32)
        found = band_hashes(sketch(hashes, offsets, perms), bands, width)
        matched += (found[rows[:, 0]] == found[rows[:, 1]]).any(axis=1)
    expected = match_probability(jaccard, bands, width)
    bins = np.minimum((jaccard * 20).astype(int), 19)
    return [
        {
            "jaccard": float(jaccard[bins == b].mean()),
            "pairs": int((bins == b).sum()),
            "matched": float(matched[bins == b].mean() / SEEDS),
            "expected": float(expected[bins == b].mean()),
        }
        for b in np.unique(bins).tolist()
    ]


def measure_curve(job: Job, groups: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """`rates` of sampled clusters, given by the doc_keys of some of their members."""
    plan = job.plan
    keys = np.array(sorted({key for group in groups for key in group}), np.int64)
    of = plan.groups_of(keys)
    items = [(job.uri, tuple(keys[of == g].tolist())) for g in np.unique(of).tolist()]
    sets: dict[int, np.ndarray] = {}
    for part in job.run(group_shingles, items, "S-curve"):
        sets |= part
    return rates(groups, sets, plan.config.fuzzy)
