"""Configuration of the quality classifier: its training sets, its training, and the threshold on its score."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from raypt.corpus.config import SourceConfig
from raypt.curation.base import Attributes, StageSettings
from raypt.curation.view import Measured, View
from raypt.settings import Settings

Normalisation = Literal["words-v1", "plain"]


class ThresholdConfig(Settings):
    """Which scores are kept. At most one rule; with none, documents are scored and all are kept."""

    percentile: float | None = Field(None, ge=0, le=100)
    """Drop documents that score below this percentile of the held-out raw sample (30: the worst 30 % of raw pages go;
    DCLM keeps the best tenth, which is 90). Percentiles are those of the artefact, not of the batch at hand."""
    minimum: float | None = Field(None, ge=0, le=1)
    """Drop documents that score below this probability. A fastText probability is not calibrated across models: a
    percentile of your own data travels better."""
    pareto_alpha: float | None = Field(None, gt=0)
    """Keep a document if a Pareto (Lomax) variate of this shape exceeds 1 - score: GPT-3's rule, with shape 9 there
    (Brown et al. 2020, appendix A). The variate is a function of (doc_key, seed) alone."""
    min_documents: int = Field(100, gt=0)
    """Held-out raw documents that `percentile` needs; with fewer the run ends at its start. With 100, the share of
    further pages that is dropped is within 10 points of the one asked for (95 %), whichever that is; with 25, asked for
    10 %, it may be 3 % or 28 %."""
    by_language: bool = True
    """Use the percentile of the document's own language where the raw sample has at least `min_language_documents` of
    it, so that a language with generally lower scores is not dropped as a whole."""
    min_language_documents: int = Field(200, gt=0)
    """Held-out raw documents a language needs for a percentile of its own."""

    @model_validator(mode="after")
    def _one_rule(self) -> "ThresholdConfig":
        rules = [name for name in ("percentile", "minimum", "pareto_alpha") if getattr(self, name) is not None]
        if len(rules) > 1:
            raise ValueError(f"{' and '.join(rules)} exclude each other; set one of them and the others to null")
        return self


class QualityConfig(StageSettings):
    """A fastText classifier of reference text against raw pages, as in GPT-3, DCLM and FineWeb-edu. Attribute:
    `quality_score` float32, the probability of reference text; null where the model knows none of the words: such a
    document is not measured, passes every threshold, and is counted in the report."""

    stage: ClassVar[str] = "quality"
    repeatable: ClassVar[bool] = False
    adds: ClassVar[tuple[str, ...]] = ("quality_score",)

    model: str | None = None
    """URI of a trained artefact (a directory written by jobs/train_quality.py) or of any fastText .bin or .ftz. None:
    train one inside the run from `reference` and `raw`, if `reference` names sources; else there is no scoring."""
    model_sha256: str | None = Field(None, pattern="^[0-9a-fA-F]{64}$")
    """sha256 (64 hex digits) that a bare fastText file must have; None: any file that fastText wrote (a flipped bit
    among its weights shows in no other way). An artefact's card holds its model's."""
    label: str = "ref"
    """Label of a bare fastText file whose probability is the score, with or without `__label__` (DCLM's: `hq`)."""
    normalisation: Normalisation = "plain"
    """How text is put to a bare fastText file (an artefact knows its own). plain: line ends to spaces only, which
    published classifiers expect. words-v1: what classifiers trained here get: lower case, white space to one space,
    punctuation apart, each Chinese, Japanese or Thai character a word."""
    max_bytes: int = Field(65_536, gt=0)
    """UTF-8 bytes of a document that are scored, from its start; the rest does not count."""
    reference: tuple[SourceConfig, ...] = ()
    """Sources of good text (encyclopedia, books, edited articles, instruction text)."""
    raw: tuple[SourceConfig, ...] = ()
    """Sources of raw pages. Empty: a sample of the run's own corpus."""
    max_documents: int = Field(50_000, gt=0)
    """Documents taken from each side, chosen by the seeded hash of their text."""
    window_bytes: int = Field(4096, ge=64)
    """Training examples are windows of at most this many UTF-8 bytes, on both sides, so that length is no clue."""
    max_windows: int = Field(4, gt=0)
    """Windows taken from one document, evenly spread, so that a book does not outweigh a thousand articles."""
    heldout_fraction: float = Field(0.1, gt=0, lt=0.5)
    """Share of the documents (by seeded hash of the text, duplicates removed) that is measured and not trained on.
    Texts of one host (where they have a URL) and near copies, whichever side they are on, are held out together or not
    at all; a host of more than half of what is to be held out is split by near copies."""
    dimension: int = Field(16, gt=0)
    """Size of fastText's word vectors; two classes need no more."""
    epochs: int | None = Field(None, gt=0)
    """Passes over the training windows; null: 5 to 25, so that training sees about 60 million words."""
    learning_rate: float = Field(0.3, gt=0)
    """fastText's initial rate. Halved and tried again, up to five times, when training meets a NaN."""
    word_ngrams: int = Field(2, ge=1)
    """Longest word n-gram used as a feature; 1: words alone, as in DCLM's published model."""
    buckets: int = Field(600_000, gt=0)
    """Hash buckets for n-grams; the model takes about 4 * (vocabulary + buckets) * dimension bytes."""
    min_count: int = Field(3, ge=1)
    """Words rarer than this in the training windows are ignored."""
    threshold: ThresholdConfig = ThresholdConfig(percentile=20.0)
    """Which scores are kept."""

    @property
    def enabled(self) -> bool:
        """Whether documents are scored at all."""
        return self.model is not None or bool(self.reference)

    def decides(self) -> frozenset[str]:
        """All but the text that is scored: how the classifier was trained is its own identity."""
        return frozenset(type(self).model_fields) - {"max_bytes"}

    def named_files(self) -> Mapping[str, str]:
        """The artefact or the model."""
        return {} if self.model is None else {"model": self.model}

    def load(self, artefact: str | None) -> Any:
        """The classifier: the one trained in the run, else the one that `model` names, else none."""
        from raypt.curation.quality.model import QualityModel  # which reads these settings

        uri = artefact or self.model
        return None if uri is None else QualityModel.load(uri, self)

    def measure(self, view: View, resources: Any) -> Measured:
        """Scores; nothing without a classifier."""
        if resources is None:
            return Measured()
        scores = pa.array(resources.score(view.text.to_arrow()), from_pandas=True)  # NaN: null
        return Measured(columns={"quality_score": scores})

    def failures(self, attributes: Attributes, settled: Any) -> Iterator[tuple[str, np.ndarray]]:
        """`score`: what the settled `QualityThreshold` does not keep; nothing without one."""
        if settled is not None:
            keys = attributes.column("doc_key").to_numpy()
            yield "score", ~settled.keep(attributes.column("quality_score"), keys, attributes.languages)
