"""A quality classifier as a typed artefact: fastText model, the normalisation it was trained under, its metrics.

An artefact is a directory with `model.bin` and `quality.json`, written last. Loading checks that they belong together.
A bare fastText `.bin` or `.ftz` can be used too, with the normalisation and label of the configuration.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from raypt import storage
from raypt.curation import fasttext_file
from raypt.curation.outside_file import local_copy
from raypt.curation.quality.config import Normalisation, QualityConfig, ThresholdConfig
from raypt.curation.quality.linear import LinearScorer
from raypt.curation.quality.metrics import Percentiles
from raypt.curation.quality.normalise import normalise
from raypt.curation.quality.threshold import QualityThreshold, languages_of_their_own, make_threshold
from raypt.errors import UserError

MODEL_FILE, CARD_FILE = "model.bin", "quality.json"
BARE = (".bin", ".ftz")
"""How the names of fastText files end, which are no artefacts."""
FORMAT = 1
_PREFIX = "__label__"


@dataclass(frozen=True)
class QualityCard:
    """What `quality.json` says of a model."""

    label: str
    normalisation: Normalisation
    max_bytes: int
    model_sha256: str
    seed: int = 0
    inputs: str = ""
    """Fingerprint of the training documents and settings: the same inputs give the same model."""
    metrics: dict[str, Any] = field(default_factory=dict)
    percentiles: dict[str, dict[str, Percentiles]] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def fingerprint(self) -> str:
        """Names the function text -> score: stored with scores, so that scores of two models are never mixed."""
        parts = (self.model_sha256, self.normalisation, self.label, str(self.max_bytes))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def read_card(uri: str) -> QualityCard:
    """The card of an artefact directory.

    Raises:
        UserError: there is none, or it is of another format.
    """
    card_uri = storage.join(uri, CARD_FILE)
    if not storage.exists(card_uri):
        raise UserError(
            f"curation.quality.model: no quality classifier at {uri} ({CARD_FILE} is missing); name a directory "
            "written by jobs/train_quality.py, or a fastText .bin or .ftz file"
        )
    content = storage.read_json(card_uri)
    if content.pop("format", None) != FORMAT:
        raise UserError(f"curation.quality.model: {card_uri} has another format than {FORMAT}; train it again")
    content.pop("fingerprint", None)
    try:
        return QualityCard(**content)
    except TypeError as e:
        raise UserError(f"curation.quality.model: {card_uri} is not a classifier's card ({e})") from e


def languages_with_percentiles(uri: str, config: ThresholdConfig) -> tuple[str, ...]:
    """The languages whose own percentiles `config` asks of the model at `uri`; a bare fastText file has none."""
    if uri.endswith(BARE):
        return ()
    return languages_of_their_own(config, read_card(storage.absolute(uri)).percentiles)


class QualityModel:
    """Scores text: the probability that it is reference text. Pickles as its URI."""

    def __init__(self, uri: str, card: QualityCard, model: Any) -> None:
        self.uri, self.card = uri, card
        self.fasttext = model
        labels = {label.removeprefix(_PREFIX) for label in model.get_labels()}
        if card.label.removeprefix(_PREFIX) not in labels:
            raise UserError(
                f"curation.quality.label: {uri} has no label {card.label!r}; its labels are "
                f"{', '.join(sorted(labels)[:20])}"
            )
        self._label = _PREFIX + card.label.removeprefix(_PREFIX)
        self._subwords = model.f.getArgs().maxn > 0
        self._linear = LinearScorer(model, self._label) if LinearScorer.supports(model) else None

    @classmethod
    def load(cls, uri: str, config: QualityConfig | None = None) -> "QualityModel":
        """The artefact directory or fastText file at `uri`; `config` gives a bare file's label and normalisation."""
        uri = storage.absolute(uri)
        if uri.endswith(BARE):
            config = config or QualityConfig()
            return cls._open(uri, uri, None, config)
        return cls._open(uri, storage.join(uri, MODEL_FILE), read_card(uri), None)

    @classmethod
    def _open(cls, uri: str, model_uri: str, card: QualityCard | None, config: QualityConfig | None) -> "QualityModel":
        if not storage.exists(model_uri):
            raise UserError(f"curation.quality.model: {model_uri} does not exist")
        expected = None
        if card is not None:
            expected = fasttext_file.Expected(card.model_sha256, f"{CARD_FILE} describes")
        elif config is not None and config.model_sha256 is not None:
            expected = fasttext_file.Expected(config.model_sha256, "curation.quality.model_sha256 names")
        with local_copy(model_uri) as path:
            model, found = fasttext_file.load(path, "curation.quality.model", shown=model_uri, expected=expected)
        if card is None:
            assert config is not None
            card = QualityCard(config.label, config.normalisation, config.max_bytes, found.sha256)
        return cls(uri, card, model)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.uri.endswith(BARE):
            config = QualityConfig(
                label=self.card.label,
                normalisation=self.card.normalisation,
                max_bytes=self.card.max_bytes,
                model_sha256=self.card.model_sha256,
            )
            return (QualityModel.load, (self.uri, config))
        return (QualityModel.load, (self.uri,))

    def score(self, text: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """float32[n] in [0, 1]: the probability of the label; linear in the length of the text. NaN: not measured, for
        the model knows none of its words (and has no subwords)."""
        return self.score_normalised(normalise(text, self.card.normalisation, self.card.max_bytes))

    def score_normalised(self, lines: pa.Array) -> np.ndarray:
        """`score` of text that went through this model's normalisation already."""
        if self._linear is not None:
            scores, known = self._linear.score(lines)
            clipped: np.ndarray = scores.clip(0.0, 1.0)
            clipped[~known] = np.nan
            return clipped
        predict, label = self.fasttext.f.predict, self._label
        out = np.zeros(len(lines), np.float32)
        for i, line in enumerate(lines.to_pylist()):
            for probability, name in predict(line + "\n", -1, 0.0, "strict"):
                if name == label:
                    out[i] = probability
                    break
            if not self._subwords and not any(self.fasttext.get_word_id(word) >= 0 for word in line.split()):
                out[i] = np.nan
        return np.clip(out, 0.0, 1.0)  # fastText's own sums can exceed 1 by rounding

    def threshold(self, config: ThresholdConfig, seed: int | None = None) -> QualityThreshold:
        """The decision rule of `config` on this model's scores; `seed` (default: the training seed) is Pareto's."""
        return make_threshold(config, self.card.percentiles, self.card.seed if seed is None else seed)
