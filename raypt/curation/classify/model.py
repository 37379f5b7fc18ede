"""A classifier at work: normalised text in, the probability of every label out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raypt import storage
from raypt.curation import fasttext_file
from raypt.curation.classify.config import Classifier, Classify
from raypt.curation.outside_file import local_copy
from raypt.curation.quality.linear import LinearClassifier, is_linear
from raypt.curation.quality.normalise import normalise
from raypt.errors import UserError

PREFIX = "__label__"
MODEL_FILE = "model.bin"


@dataclass(frozen=True)
class Answer:
    """What a model says of D documents, null or NaN where it knows none of their words: label string[D], score
    float32[D], and float32[D] by label of those that become metrics."""

    label: pa.Array
    score: np.ndarray
    columns: dict[str, np.ndarray]
    probabilities: np.ndarray
    labels: tuple[str, ...]

    def of(self, label: str) -> np.ndarray:
        """float32[D], the probability of a label."""
        found: np.ndarray = self.probabilities[:, self.labels.index(label)]
        return found


class Model:
    """A loaded classifier."""

    def __init__(self, settings: Classifier, model: Any) -> None:
        self._settings = settings
        self._names = list(model.get_labels())
        self.labels = tuple(name.removeprefix(PREFIX) for name in self._names)
        self._subwords = model.f.getArgs().maxn > 0
        self._linear = LinearClassifier(model) if is_linear(model) else None
        self._model = model if self._linear is None else None  # one copy of the weights is enough

    def probabilities(self, text: pa.Array) -> np.ndarray:
        """float32[n, labels]; a row of NaN: the model knows none of the words (and has no subwords, or there are no
        words)."""
        lines = normalise(text, self._settings.normalisation, self._settings.max_bytes)
        if self._linear is not None:
            p, known = self._linear.probabilities(lines)
            p[~known] = np.nan
            return p
        out = np.zeros((len(lines), len(self._names)), np.float32)
        at = {name: i for i, name in enumerate(self._names)}
        assert self._model is not None
        predict = self._model.f.predict
        for i, line in enumerate(lines.to_pylist()):
            words = line.split()
            if not words or not (self._subwords or any(self._model.get_word_id(word) >= 0 for word in words)):
                out[i] = np.nan
                continue
            for p_label, name in predict(line + "\n", -1, 0.0, "strict"):
                out[i, at[name]] = p_label
        return np.clip(out, 0.0, 1.0)  # fastText's own sums can exceed 1 by rounding

    def ask(self, text: pa.Array) -> Answer:
        """What it says of texts."""
        p = self.probabilities(text)
        unknown = np.isnan(p).any(axis=1)
        best = np.where(unknown, 0, np.nan_to_num(p, nan=-1.0).argmax(axis=1))
        score = p[np.arange(len(p)), best]
        label = pa.array(self.labels, pa.string()).take(pa.array(best, pa.int64(), mask=unknown))
        shown = self.labels if self._settings.labels is None else self._settings.labels
        return Answer(label, score, {n: p[:, self.labels.index(n)] for n in shown}, p, self.labels)


def look(settings: Classifier, key: str) -> fasttext_file.FastTextFile:
    """What the file of a model is, without fastText seeing it.

    Raises:
        UserError: it is not there, fastText did not write it, or it is not the one that is expected.
    """
    assert settings.model is not None
    uri = storage.absolute(settings.model)
    if not storage.exists(uri):
        raise UserError(f"{key}.model: no file {settings.model}")
    try:
        with local_copy(uri) as path:
            found = fasttext_file.check(path)
    except fasttext_file.Malformed as e:
        raise UserError(f"{key}.model: {settings.model} is not a fastText model: {e}") from None
    if settings.model_sha256 is not None and found.sha256 != settings.model_sha256.lower():
        raise UserError(
            f"{key}.model: {settings.model} is not the file that {key}.model_sha256 names (sha256 "
            f"{found.sha256[:12]}, expected {settings.model_sha256[:12].lower()})"
        )
    return found


def placed(settings: Classify, root: str) -> Classify:
    """The settings with the files of the models that were trained; `root`: the stage's directory in the run."""
    models = {
        name: model if model.train is None else model.at(storage.join(root, name, MODEL_FILE))
        for name, model in settings.models.items()
    }
    return settings.model_copy(update={"models": models})


def bare(labels: tuple[str, ...]) -> list[str]:
    """Labels as a model has them, without their prefix."""
    return [label.removeprefix(PREFIX) for label in labels]


def load_models(settings: Classify, artefact: str | None) -> dict[str, Model]:
    """The models by name. `artefact`: URI of the card of `prepare`, whose bytes they must have."""
    described = storage.read_json(artefact)["account"]["models"] if artefact is not None else {}
    if artefact is not None:
        settings = placed(settings, artefact.rpartition("/")[0])
    loaded = {}
    for name, model in settings.models.items():
        if model.model is None:
            raise UserError(f"curation.classify.models.{name}.train: the model is trained when the run starts")
        key = f"curation.classify.models.{name}"
        expected = None
        if name in described:
            expected = fasttext_file.Expected(described[name]["sha256"], "this run started with")
        elif model.model_sha256 is not None:
            expected = fasttext_file.Expected(model.model_sha256, f"{key}.model_sha256 names")
        uri = storage.absolute(model.model)
        if not storage.exists(uri):
            raise UserError(f"{key}.model: no file {model.model}")
        with local_copy(uri) as path:
            found = fasttext_file.load(path, f"{key}.model", shown=model.model, expected=expected)[0]
        loaded[name] = Model(model, found)
    return loaded
