"""The S-curve as it is on this corpus: how often pairs of known Jaccard similarity share a band.

Pairs are taken from a sample of the clusters found, where similar documents are, and judged under other seeds than the
run's own: under its own they match because that is how they were chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

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
TEXT_CHARACTERS = 400
"""Of a cluster's documents in the report."""


@dataclass
class Seen:
    """What was seen of some documents, by doc_key: their sets of shingles, the texts of those to be shown."""

    sets: dict[int, np.ndarray] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)


def see(item: tuple[str, tuple[int, ...], tuple[int, ...]]) -> Seen:
    """Read documents of one group. Item: (plan URI, doc_keys of those whose shingles are wanted, and whose texts)."""
    plan, keys, shown = load_plan(item[0]), item[1], item[2]
    found = read_texts(plan, {*keys, *shown})
    sets = _shingles({key: found[key] for key in keys if key in found}, plan.config.fuzzy) if keys else {}
    return Seen(sets, {key: found[key][:TEXT_CHARACTERS] for key in shown if key in found})


def _shingles(texts: dict[int, str], fuzzy: FuzzyConfig) -> dict[int, np.ndarray]:
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


def see_all(job: Job, sampled: Sequence[int], shown: Sequence[int]) -> Seen:
    """The shingles of the documents `sampled` and the beginnings of the texts of those `shown`; a file is read once."""
    plan = job.plan
    keys, texts = (np.array(sorted(set(of)), np.int64) for of in (sampled, shown))
    of_keys, of_texts = plan.groups_of(keys), plan.groups_of(texts)
    groups = np.union1d(of_keys, of_texts).tolist()
    items = [(job.uri, tuple(keys[of_keys == g].tolist()), tuple(texts[of_texts == g].tolist())) for g in groups]
    out = Seen()
    for part in job.run(see, items, "S-curve"):
        out.sets |= part.sets
        out.texts |= part.texts
    return out
