"""Language identification with fastText's lid.176 (Joulin et al. 2016), and thresholds on its score by language."""

import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from raypt import storage
from raypt.curation import fasttext_file, languages
from raypt.curation.base import Attributes, StageSettings
from raypt.curation.fasttext_weights import read_weights
from raypt.curation.lid_model import LanguageModel
from raypt.curation.lid_text import question_lines
from raypt.curation.view import Measured, View
from raypt.errors import UserError
from raypt.text.buffers import TextBatch

BUILTIN_MODEL = Path(__file__).parent / "assets" / "lid.176.ftz"
BUILTIN_SHA256 = "8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83"
_PREFIX = "__label__"


class LanguageConfig(StageSettings):
    """Which language a document is in, and which languages are kept. Attributes: `lang` string, `lang_score`
    float32."""

    stage: ClassVar[str] = "language"
    repeatable: ClassVar[bool] = False
    adds: ClassVar[tuple[str, ...]] = ("lang", "lang_score")

    model: str | None = None
    """Path of another fastText language model; None: lid.176, which comes with raypt (codes of ISO 639-1 where there is
    one: en, zh, de, ..., else 639-3: yue, wuu)."""
    model_sha256: str | None = Field(None, pattern="^[0-9a-fA-F]{64}$")
    """sha256 (64 hex digits) that the file `model` must have; None: any file that fastText wrote. A flipped bit among
    its weights shows in no other way."""
    keep: tuple[str, ...] | None = None
    """Languages kept, by any code or English name (`zh`, `cmn_Hani`, `Chinese`), whatever the model's labels are; None
    keeps all. One that the model has no label for is refused."""
    score_min: float | None = Field(0.5, ge=0, le=1)
    """Lowest probability of the best language (CCNet and CulturaX: 0.5; FineWeb and RefinedWeb: 0.65; mC4: 0.7).
    Mixed or garbled text scores low."""
    score_min_by_language: dict[str, float | None] = Field(default_factory=dict)
    """The same for single languages, by any code; null switches the rule off for a language."""
    trust_column: bool = False
    """Documents that come with a language that the model knows (`corpus.sources[].columns: {lang: FIELD}`) keep it,
    with a score of 1; the others are identified."""
    max_bytes: int | None = Field(None, gt=0)
    """UTF-8 bytes of a document that are looked at, from its start; None: all of it."""
    assume: str | None = None
    """Language of all documents when the `language` stage is off and the input has no `lang` column."""

    def decides(self) -> frozenset[str]:
        """Which languages are kept, and how surely they must be known."""
        return frozenset(("keep", "score_min", "score_min_by_language"))

    def asks_columns(self) -> tuple[str, ...]:
        """The input's own language, if it is believed."""
        return ("lang",) if self.trust_column else ()

    def named_languages(self) -> Mapping[str, Iterable[str]]:
        """Those that are kept, and those with a score of their own."""
        return {"keep": self.keep or (), "score_min_by_language": self.score_min_by_language}

    def named_files(self) -> Mapping[str, str]:
        """The model."""
        return {} if self.model is None else {"model": self.model}

    def load(self, artefact: str | None) -> Any:
        """The fastText model."""
        return load_model(self)

    def measure(self, view: View, resources: Any = None) -> Measured:
        """Language and score of every document."""
        lang, score = identify(view.text, self, view.languages if self.trust_column else None)
        return Measured(columns={"lang": lang, "lang_score": pa.array(score)})

    def failures(self, attributes: Attributes, settled: Any = None) -> Iterator[tuple[str, np.ndarray]]:
        """`keep` (another language), `score_min` (not surely any language)."""
        score = attributes.column("lang_score").to_numpy(zero_copy_only=False)
        for rule, fails in rejections(attributes.column("lang"), score, self).items():
            yield rule, fails & ~np.isnan(score)  # without a score nothing was looked at: the stage passed it


@functools.cache
def _load(path: str, expected: fasttext_file.Expected | None) -> Any:
    return fasttext_file.load(path, "curation.language.model", expected=expected)[0]


@functools.cache
def _tables(path: str) -> LanguageModel | None:
    """What answers in fastText's place, once a process; None for a model that it has to answer for itself."""
    weights = read_weights(path)
    return None if weights is None else LanguageModel(weights)


def _file(config: LanguageConfig) -> str:
    return str(BUILTIN_MODEL) if config.model is None else storage.filesystem(config.model)[1]


def load_model(config: LanguageConfig) -> Any:
    """The fastText model, checked and loaded once a process."""
    if config.model is None:
        return _load(str(BUILTIN_MODEL), fasttext_file.Expected(BUILTIN_SHA256, "comes with raypt", known=True))
    if not storage.is_local(config.model) or not storage.exists(config.model):
        raise UserError(f"curation.language.model: no file {config.model}; it must be on a local disk")
    given = config.model_sha256
    expected = fasttext_file.Expected(given, "curation.language.model_sha256 names") if given else None
    return _load(storage.filesystem(config.model)[1], expected)


def known_codes(config: LanguageConfig) -> frozenset[str]:
    """The codes that the model gives documents. A walk over its file; fastText does not see it.

    Raises:
        UserError: the file is not one that fastText wrote.
    """
    try:
        return _labels(storage.filesystem(config.model)[1] if config.model else str(BUILTIN_MODEL))
    except fasttext_file.Malformed as e:
        raise UserError(f"curation.language.model: {config.model} is no fastText model: {e}") from None


@functools.cache
def _labels(path: str) -> frozenset[str]:
    return frozenset(label.removeprefix(_PREFIX) for label in fasttext_file.check(path).labels)


def said(given: pa.Array, config: LanguageConfig) -> list[str | None]:
    """What the model calls the languages that documents came with; null for those that it does not know."""
    path = storage.filesystem(config.model)[1] if config.model else str(BUILTIN_MODEL)
    labels = sorted(_labels(path))
    names = given.dictionary_encode()
    known = [languages.match(name, labels) for name in names.dictionary.to_pylist()]
    return [None if i is None else known[i] for i in names.indices.to_pylist()]


def identify(text: TextBatch, config: LanguageConfig, given: pa.Array | None = None) -> tuple[pa.Array, np.ndarray]:
    """`(string[n] code of the most probable language, float32[n] its probability)`.

    Null and 0 for a text without words. `given`: languages that are believed, with 1, where the model knows them.
    """
    labels: list[str | None] = [None] * len(text) if given is None else list(said(given, config))
    scores = np.array([label is not None for label in labels], np.float32)
    lines = question_lines(text, config.max_bytes)
    asked = [i for i, line in enumerate(lines) if labels[i] is None and not line.isspace()]
    answers, found = _asked(config, [lines[i] for i in asked])
    scores[asked] = found
    for i, label in zip(asked, answers, strict=True):
        labels[i] = label
    return pa.array(labels, pa.string()), scores


def _asked(config: LanguageConfig, lines: list[str]) -> tuple[list[str | None], np.ndarray]:
    """The answer to each line, None where no word of it has a meaning to the model, and its probability."""
    model = load_model(config)
    if (tables := _tables(_file(config))) is not None:
        return tables.best(lines)
    labels: list[str | None] = []
    scores = np.zeros(len(lines), np.float32)
    for i, line in enumerate(lines):
        best = model.f.predict(line, 1, 0.0, "strict")
        labels.append(best[0][1].removeprefix(_PREFIX) if best else None)
        scores[i] = min(best[0][0], 1.0) if best else 0.0  # fastText's rounding can exceed 1
    return labels, scores


def rejections(lang: pa.Array, score: np.ndarray, config: LanguageConfig) -> dict[str, np.ndarray]:
    """bool[n] by rule: `keep` (another language), `score_min` (not surely any language)."""
    codes = lang.dictionary_encode()
    names: list[str | None] = [*codes.dictionary.to_pylist(), None]
    index = codes.indices.fill_null(len(names) - 1).to_numpy(zero_copy_only=False)
    kept = np.array([config.keep is None or languages.match(name, config.keep) is not None for name in names])
    keys = [languages.match(name, config.score_min_by_language) for name in names]
    bounds = [config.score_min if key is None else config.score_min_by_language[key] for key in keys]
    floor = np.array([np.nan if b is None else b for b in bounds])
    return {"keep": ~kept[index], "score_min": score.astype(np.float64) < floor[index]}
