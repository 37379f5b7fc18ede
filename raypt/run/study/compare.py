"""Differences between variants with intervals: a paired bootstrap over seeds and held-out documents.

All variants are judged on the same documents and, where they share seeds, from the same first weights and order of
samples: of two variants the difference is taken document by document and seed by seed, so that what both have in common
cancels. Figures are bits per byte, which do not depend on the tokenizer.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from raypt.run.study.laws.bootstrap import LEVEL, RESAMPLES
from raypt.run.study.laws.robust import Array


@dataclass(frozen=True)
class Difference:
    """Bits per byte of a variant less those of the reference: below 0 is better."""

    value: float
    low: float
    high: float

    @property
    def in_the_noise(self) -> bool:
        return self.low <= 0 <= self.high


def bits_per_byte(nats_SD: Array, bytes_D: Array) -> float:
    """Mean over seeds."""
    return float(nats_SD.mean(0).sum() / math.log(2) / bytes_D.sum())


def difference(
    nats_SD: Array,
    reference_SD: Array,
    bytes_D: Array,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Difference:
    """Nats by seed and document, of a variant and of the reference (rows: the same seeds).

    Documents are drawn with replacement, and seeds too if there are several. Few seeds understate their own scatter by
    sqrt((n - 1) / n), and the normal quantile Student's: how far a resample's seeds lie from all is enlarged by both,
    so that two seeds say as little as they do.
    """
    gap_SD = (nats_SD - reference_SD) / math.log(2)
    seeds, documents = gap_SD.shape
    rng = np.random.default_rng(seed)
    drawn_BD = rng.multinomial(documents, np.full(documents, 1 / documents), size=resamples).astype(float)
    size_B = drawn_BD @ bytes_D
    resampled = drawn_BD @ gap_SD.mean(0) / size_B
    if seeds > 1:
        drawn_BS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
        t, z = (d.ppf((1 + level) / 2) for d in (stats.t(seeds - 1), stats.norm))
        by_seed_S = gap_SD.sum(1) / bytes_D.sum()
        resampled = resampled + t / z * math.sqrt(seeds / (seeds - 1)) * (drawn_BS @ by_seed_S - by_seed_S.mean())
    share = (1 - level) / 2
    low, high = np.quantile(resampled, [share, 1 - share])
    return Difference(float(gap_SD.mean(0).sum() / bytes_D.sum()), float(low), float(high))
