"""The `perplexity` stage: how well a language model of good text foresees a document."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from raypt import storage
from raypt.corpus.config import SourceConfig
from raypt.curation import languages
from raypt.curation.base import Attributes
from raypt.curation.perplexity.arpa import MAX_ORDER
from raypt.curation.perplexity.sentences import sentences
from raypt.curation.quality.config import Normalisation
from raypt.curation.rules.base import RuleSettings, struct
from raypt.curation.view import Measured, View
from raypt.settings import Settings

BUCKET = "bucket"
"""The metric that says head, middle or tail."""


class RunPercentiles(Settings):
    """Bounds and buckets by percentile of the run's own documents as the stage saw them; what earlier stages remove
    counts among these. Documents of nearly one perplexity (1 part in 2,000) stay together. What is not measured is
    kept and has no bucket."""

    min: float | None = Field(None, ge=0, le=100)
    """Drop documents whose perplexity is below this percentile: text that repeats itself (5: at most 5 % go)."""
    max: float | None = Field(None, ge=0, le=100)
    """Drop documents whose perplexity is above this percentile (90: at most 10 % go)."""
    buckets: tuple[float, float] | None = None
    """Percentiles that part head from middle and middle from tail, the most fluent text first (CCNet: `[30, 60]`). The
    curated documents then have `perplexity.bucket` (`head`, `middle`, `tail`), which `tokens.mixture.by` can name."""
    within: tuple[str, ...] = ("lang",)
    """Columns in whose every group percentiles are taken, e.g. `[source, lang]`; none: over the run. Perplexities under
    the models of two languages do not compare."""
    min_documents: int = Field(200, gt=0)
    """Measured documents that a group needs for percentiles. Those of a smaller one pass and have no bucket, and a
    warning names it: other than with classifiers, the run's percentiles say nothing about them."""

    @model_validator(mode="after")
    def _ascending(self) -> "RunPercentiles":
        for name, pair in (("min, max", (self.min, self.max)), ("buckets", self.buckets or (None, None))):
            low, high = pair
            if low is not None and high is not None and low >= high:
                raise ValueError(f"{name}: the first percentile must be the smaller one, not {low:g} and {high:g}")
        if any(not 0 < p < 100 for p in self.buckets or ()):
            raise ValueError("buckets: both percentiles must lie between 0 and 100")
        return self

    @property
    def asked(self) -> bool:
        """Whether there is anything to settle."""
        return self.min is not None or self.max is not None or self.buckets is not None


class Perplexity(RuleSettings):
    """Perplexity a token under an n-gram model of the document's language (CCNet, Wenzek et al. 2020), each line of the
    text a sentence. Documents of a language without a model, and those without words, are not measured and pass."""

    stage: ClassVar[str] = "perplexity"
    repeatable: ClassVar[bool] = False
    metrics: ClassVar[tuple[str, ...]] = ("per_token", "unknown_fraction")

    reference: tuple[SourceConfig, ...] = ()
    """Sources of good text; a model of each of its languages is trained inside the run."""
    models: dict[str, str] = Field(default_factory=dict)
    """Files by language, instead of `reference`: ARPA (`.arpa`, `.arpa.gz`), or KenLM's binary files of any kind, which
    need `pip install 'raypt[kenlm]'`. Their bytes are part of the identity of what is tagged."""
    models_sha256: dict[str, Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")]] = Field(default_factory=dict)
    """sha256 (64 hex digits) that the file of a language must have; without one, any well-formed file is taken (a
    flipped bit among its probabilities shows in no other way)."""
    normalisation: Normalisation = "words-v1"
    """How text is put to the model. words-v1: lower case, punctuation apart, each Chinese, Japanese or Thai character a
    word; plain: as it is, words between blanks, which suits a loaded model whose text was cut into words likewise."""
    order: int = Field(5, ge=2, le=MAX_ORDER)
    """Longest n-gram of the models that are trained (CCNet: 5)."""
    min_count: int = Field(2, ge=1)
    """n-grams of three words and more that occur less often in the reference text are left out of the model."""
    max_documents: int = Field(50_000, gt=0)
    """Documents taken from the reference sources, over all languages."""
    max_tokens: int = Field(10_000_000, gt=0)
    """Words of reference text a language; training takes some 70 bytes a word."""
    min_tokens: int = Field(1000, gt=0)
    """Words of reference text that a language needs for a model."""
    max_bytes: int = Field(65_536, gt=0)
    """UTF-8 bytes of a document that are looked at, from its start."""
    per_token_min: float | None = None
    """Lowest perplexity: what is too easily foreseen repeats itself."""
    per_token_max: float | None = None
    """Highest perplexity. It depends on the model and the language: look at the attribute first; by language in
    `by_language`."""
    unknown_fraction_max: float | None = None
    """Largest share of tokens that the model does not know."""
    percentiles: RunPercentiles = RunPercentiles()
    """Bounds, and head, middle and tail, by percentile of the run's own documents, language by language (CCNet)."""

    @model_validator(mode="after")
    def _one_origin(self) -> "Perplexity":
        if self.reference and self.models:
            raise ValueError("reference and models exclude each other; set one of them")
        return self

    @model_validator(mode="after")
    def _hashes_of_models(self) -> "Perplexity":
        for name in self.models_sha256:
            if name not in self.models:
                raise ValueError(f"models_sha256.{name}: models names no file of this language")
        return self

    @property
    def enabled(self) -> bool:
        """Whether there is a model at all."""
        return bool(self.reference or self.models)

    def decides(self) -> frozenset[str]:
        """The bounds, and how models were trained, which is their own identity."""
        return frozenset(type(self).model_fields) - {"normalisation", "max_bytes"}

    def asks_language(self) -> str | None:
        """Where the models come from: which one is asked is a matter of the language."""
        return next((key for key in ("reference", "models") if getattr(self, key)), None)

    def asks_columns(self) -> tuple[str, ...]:
        """Those that percentiles are taken within."""
        return self.settles_within()

    def settles_within(self) -> tuple[str, ...]:
        """Those of the percentiles."""
        return self.percentiles.within if self.percentiles.asked else ()

    def settled_names(self) -> tuple[str, ...]:
        """`bucket`, if buckets are asked for."""
        return () if self.percentiles.buckets is None else (BUCKET,)

    def number_metrics(self) -> tuple[str, ...]:
        """Perplexity a token."""
        return ("per_token",)

    def failures(self, attributes: Attributes, settled: Any) -> Iterator[tuple[str, np.ndarray]]:
        """The bounds, then those by percentile. `settled`: the `Settled` of the run."""
        yield from super().failures(attributes, None)
        if self.percentiles.min is not None:
            yield "per_token_percentile_min", self._settled(attributes, settled).below(attributes)
        if self.percentiles.max is not None:
            yield "per_token_percentile_max", self._settled(attributes, settled).above(attributes)

    def settled_metrics(self, attributes: Attributes, settled: Any) -> dict[str, pa.Array]:
        """`bucket`, if buckets are asked for."""
        if self.percentiles.buckets is None:
            return {}
        return {BUCKET: self._settled(attributes, settled).bucket(attributes)}

    @staticmethod
    def _settled(attributes: Attributes, settled: Any) -> Any:
        if settled is None:
            raise ValueError(f"{attributes.stage}: the percentiles were not settled for the run")
        return settled

    def named_languages(self) -> Mapping[str, Iterable[str]]:
        """Those with a model."""
        return {"models": self.models}

    def named_files(self) -> Mapping[str, str]:
        """The models."""
        return {f"models.{language}": uri for language, uri in self.models.items()}

    def load(self, artefact: str | None) -> "Models":
        """The models, each read at its first document; with an `artefact`, exactly the files that it describes."""
        uris = {name: storage.absolute(uri) for name, uri in self.models.items()}
        if artefact is None:
            return Models(uris)
        account = storage.read_json(storage.join(artefact, CARD_FILE))["account"]
        if "tokens" in account:
            return Models({name: storage.join(artefact, f"{name}.arpa") for name in account["tokens"]})
        return Models(uris, account["sha256"])

    def measure(self, view: View, resources: "Models") -> Measured:
        """The metrics, language by language."""
        per_token, unknown = np.full(len(view), np.nan), np.full(len(view), np.nan)
        found = view.languages.to_pylist()
        keys = {label: languages.match(label, resources.uris) for label in set(found)}
        of_doc = np.array([keys[label] for label in found], dtype=object)
        text = view.text.to_arrow()
        for name in resources.uris:
            rows = np.flatnonzero(of_doc == name)
            if not len(rows):
                continue
            cut = sentences(text.take(pa.array(rows)), self.normalisation, self.max_bytes)
            scores = resources.model(name).score(cut, len(rows))
            per_token[rows] = scores.perplexity
            unknown[rows] = np.where(scores.tokens > 0, scores.unknown / np.maximum(scores.tokens, 1), np.nan)
        return Measured(struct({"per_token": per_token, "unknown_fraction": unknown}))


class Models:
    """Models by language, each loaded when it is asked for."""

    def __init__(self, uris: Mapping[str, str], sha256: Mapping[str, str] | None = None) -> None:
        """`sha256`: by language, of the files that the run started with."""
        self.uris, self._sha256 = uris, sha256 or {}
        self._loaded: dict[str, Any] = {}

    def model(self, language: str) -> Any:
        """The `NGramModel` or `KenlmModel` of a language that `uris` names."""
        from raypt.curation.perplexity.files import load  # compiled kernels: not for reading a configuration

        if language not in self._loaded:
            key = f"curation.perplexity.models.{language}"
            self._loaded[language] = load(self.uris[language], key, self._sha256.get(language))
        return self._loaded[language]


CARD_FILE = "card.json"
