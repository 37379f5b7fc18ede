"""From scores to keep or drop: percentile, absolute bound, or GPT-3's stochastic rule. Reads scores only."""

import logging
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from raypt.curation import languages
from raypt.curation.quality.config import ThresholdConfig
from raypt.curation.quality.metrics import Percentiles, dropped_interval
from raypt.errors import UserError
from raypt.text.hashing import GOLDEN, splitmix64_all

log = logging.getLogger("raypt")


class TooFewTexts(UserError):
    """There is not enough text to train a classifier, or to take a percentile of its scores."""


CERTAIN_DOCUMENTS = 1000
"""Documents below which a percentile is uncertain enough to be said: 3 points to either side at the median."""


def uniform(doc_key: np.ndarray, seed: int) -> np.ndarray:
    """A uniform float64 in [0, 1) for each key: SplitMix64 of (key, seed), the same on every retry and worker."""
    with np.errstate(over="ignore"):
        keys = doc_key.astype(np.uint64) + GOLDEN * np.uint64((2 * seed + 1) & (2**64 - 1))
    x: np.ndarray = splitmix64_all(keys)
    return np.asarray((x >> np.uint64(11)).astype(np.float64) * 2.0**-53)


@dataclass(frozen=True)
class QualityThreshold:
    """A decision rule on scores; at most one of `minimum` and `pareto_alpha` is set."""

    minimum: float | None = None
    """Lowest score kept, for languages without one of their own."""
    minimum_by_language: dict[str, float] = field(default_factory=dict)
    """The same by language, as the model was trained under calls it; found whatever the documents' language model does
    (`raypt.curation.languages`)."""
    pareto_alpha: float | None = None
    seed: int = 0

    def keep(
        self, score: pa.Array | np.ndarray, doc_key: pa.Array | np.ndarray, lang: pa.Array | None = None
    ) -> np.ndarray:
        """bool[n]: which documents are kept. A score that is null or NaN is kept: it was not measured."""
        s = np.asarray(score.to_numpy(zero_copy_only=False) if isinstance(score, pa.Array) else score, np.float64)
        unknown = np.isnan(s)
        if self.pareto_alpha is not None:
            u = uniform(np.asarray(doc_key), self.seed)
            variate = (1.0 - u) ** (-1.0 / self.pareto_alpha) - 1.0
            return unknown | (variate > 1.0 - s)
        if self.minimum is None:
            return np.ones(len(s), bool)
        bound = np.full(len(s), self.minimum)
        if self.minimum_by_language and lang is not None:
            names = lang.dictionary_encode()
            keys = [languages.match(name, self.minimum_by_language) for name in names.dictionary.to_pylist()]
            per_name = [self.minimum if key is None else self.minimum_by_language[key] for key in keys]
            codes = names.indices.fill_null(len(per_name)).to_numpy(zero_copy_only=False)
            bound = np.array([*per_name, self.minimum])[codes]
        return unknown | (s >= bound)


def languages_of_their_own(config: ThresholdConfig, percentiles: dict[str, dict[str, Percentiles]]) -> tuple[str, ...]:
    """The languages whose own percentile is used: those of enough raw documents."""
    if config.percentile is None or not config.by_language:
        return ()
    found = percentiles.get("lang", {}).items()
    return tuple(lang for lang, values in found if values["documents"] >= config.min_language_documents)


def make_threshold(
    config: ThresholdConfig, percentiles: dict[str, dict[str, Percentiles]], seed: int
) -> QualityThreshold:
    """The rule of `config` for a model with these score `percentiles` (see `metrics.score_percentiles`)."""
    if config.pareto_alpha is not None:
        return QualityThreshold(pareto_alpha=config.pareto_alpha, seed=seed)
    if config.percentile is None:
        return QualityThreshold(minimum=config.minimum)
    overall = percentiles.get("all", {}).get("")
    if overall is None:
        raise UserError(
            "curation.quality.threshold.percentile: this model has no score percentiles of a raw sample (a plain .bin "
            "or .ftz has none); set threshold.minimum or threshold.pareto_alpha, or train one: jobs/train_quality.py"
        )
    documents = int(overall["documents"])
    low, high = dropped_interval(config.percentile, documents)
    if documents < config.min_documents:
        raise TooFewTexts(
            f"curation.quality.threshold.percentile: {config.percentile:g} would be that of {documents} held-out raw "
            f"documents, fewer than min_documents={config.min_documents}: between {low:.0f} and {high:.0f} % of the "
            "corpus could go (95 % interval). Give more raw text (curation.quality.raw) or a larger heldout_fraction, "
            "set threshold.minimum instead, or lower threshold.min_documents if that is good enough"
        )
    if documents < CERTAIN_DOCUMENTS:
        log.warning(
            "curation.quality.threshold.percentile: %g is that of %d held-out raw documents only: the share of the "
            "corpus that it drops is between %.0f and %.0f %% (95 %% interval); give more raw text, or a larger "
            "heldout_fraction",
            config.percentile,
            documents,
            low,
            high,
        )
    at = np.arange(101)
    own = percentiles.get("lang", {})
    by_language = {
        lang: float(np.interp(config.percentile, at, own[lang]["scores"]))
        for lang in languages_of_their_own(config, percentiles)
    }
    return QualityThreshold(
        minimum=float(np.interp(config.percentile, at, overall["scores"])), minimum_by_language=by_language, seed=seed
    )
