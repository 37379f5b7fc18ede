"""The `classify` stage: what fastText classifiers say of a document, and which of their answers are kept."""

import difflib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from raypt.corpus.config import SourceConfig
from raypt.curation.base import Attributes, StageSettings
from raypt.curation.quality.config import Normalisation
from raypt.curation.view import Measured, View
from raypt.settings import Settings

MAX_COLUMNS = 64
"""Labels of a model whose probabilities are kept without being named: WebOrganizer's have 24."""
SCORE = "_score"
PERCENTILE = "_percentile"
_NAME = re.compile(r"\w+\Z")


class Training(Settings):
    """Labelled text that a classifier is trained on inside the run, and how."""

    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    """Sources of labelled text."""
    label: str = "source"
    """Column that has the label: `source`, each source's name, or one that every source carries along
    (`sources[].columns`). White space in a label becomes `_`; a text without a label, or with several, is left out."""
    max_documents: int = Field(10_000, gt=0)
    """Documents taken of each label at most, chosen by the seeded hash of their text; so many for each source are read
    in all, and held in the memory of the driver (240,000 web pages for 24 labels: about 1 GB)."""
    window_bytes: int = Field(4096, ge=64)
    """Training examples are windows of at most this many UTF-8 bytes."""
    max_windows: int = Field(4, gt=0)
    """Windows taken from one document, evenly spread."""
    heldout_fraction: float = Field(0.1, gt=0, lt=0.5)
    """Share of the texts that is measured and not trained on; texts of one host and near copies are on one side, as in
    `curation.quality`."""
    dimension: int = Field(16, gt=0)
    """Size of fastText's word vectors (WebOrganizer's classifiers of 24 labels in fastText form have 64)."""
    epochs: int | None = Field(None, gt=0)
    """Passes over the training windows; null: 5 to 25, so that training sees about 60 million words."""
    learning_rate: float = Field(0.3, gt=0)
    """fastText's initial rate. Halved and tried again, up to five times, when training meets a NaN."""
    word_ngrams: int = Field(2, ge=1)
    """Longest word n-gram used as a feature."""
    buckets: int = Field(600_000, gt=0)
    """Hash buckets for n-grams; the model takes about 4 * (vocabulary + buckets) * dimension bytes."""
    min_count: int = Field(3, ge=1)
    """Words rarer than this in the training windows are ignored."""


class Classifier(Settings):
    """A fastText model and how text is put to it."""

    model: str | None = None
    """URI of a fastText .bin or .ftz, from anywhere. Its bytes are part of the identity of what is tagged."""
    train: Training | None = None
    """Train the model inside the run instead, once, from labelled sources; text is put to it as words-v1. Its held-out
    accuracy by label is in the report."""
    model_sha256: str | None = Field(None, pattern="^[0-9a-fA-F]{64}$")
    """sha256 (64 hex digits) that the file must have; None: any file that fastText wrote (a flipped bit among its
    weights shows in no other way)."""
    normalisation: Normalisation = "plain"
    """As in `curation.quality`: plain (line ends to spaces), which published classifiers expect; words-v1 (lower case,
    punctuation apart, each Chinese, Japanese or Thai character a word)."""
    max_bytes: int = Field(65_536, gt=0)
    """UTF-8 bytes of a document that are looked at, from its start."""
    labels: tuple[str, ...] | None = None
    """Labels (without `__label__`) whose probabilities become metrics; None: all, of a model that has at most 64."""

    @model_validator(mode="after")
    def _one_origin(self) -> "Classifier":
        if (self.model is None) == (self.train is None):
            raise ValueError("name a file (model) or labelled sources (train), one of them")
        if self.train is not None and self.model_sha256 is not None:
            raise ValueError("model_sha256 is of a file; a model that is trained has none yet")
        return self

    def at(self, uri: str) -> "Classifier":
        """The one that was trained into a file."""
        return self.model_copy(update={"model": uri, "normalisation": "words-v1"})


class Ranking(Settings):
    """Among which documents of the run a percentile is taken."""

    within: tuple[str, ...] = ()
    """Columns in whose every group it is taken, e.g. `[source, lang, classify.topic]`. None: over the run."""
    min_documents: int = Field(200, gt=0)
    """Measured documents that a group needs for percentiles of its own; a smaller one has the whole run's."""


class Ensemble(Ranking):
    """One number from what several models say of a label of theirs. `within` and `min_documents` are of percentiles."""

    of: dict[str, str] = Field(min_length=1)
    """Model -> its label, e.g. `{edu: high, dclm: hq}`."""
    how: Literal["max", "mean", "percentile", "percentile_mean"] = "max"
    """`max`, `mean`: the largest of the probabilities, or their mean. `percentile`, `percentile_mean`: the largest, or
    the mean, of the percentiles (0 to 100) at which the document stands under each model, which do not depend on how
    sure of itself a model is (Nemotron-CC: the largest of the classifiers' twentieths). A model that does not measure a
    document has no say in it."""

    @property
    def settled(self) -> bool:
        """Whether it is known only when the run is measured."""
        return self.how.startswith("percentile")

    @property
    def members(self) -> tuple[str, ...]:
        """The metrics that it joins."""
        return tuple(f"{model}_{label}" for model, label in self.of.items())

    @model_validator(mode="after")
    def _groups_of_percentiles(self) -> "Ensemble":
        if self.within and not self.settled:
            raise ValueError(f"within: {self.how} is of probabilities; how: percentile is taken within groups")
        return self


class Decision(Ranking):
    """Which values of a metric are kept. What was not measured is kept."""

    keep: tuple[str, ...] | None = None
    """Labels that are kept; None: all but those of `drop`. The metric is the name of a model."""
    drop: tuple[str, ...] = ()
    """Labels that go."""
    min: float | None = None
    """Smallest number kept; the metric is `<model>_score`, `<model>_<label>`, an ensemble, or the percentile of one of
    these (`<metric>_percentile`)."""
    max: float | None = None
    """Largest number kept."""
    percentile: float | None = Field(None, ge=0, le=100)
    """Drop documents below this percentile of the run's own documents as the stage saw them; what earlier stages remove
    counts among these. Equal scores stay together; scores are told apart to 1 part in 2,000 of the distance from 0
    or 1."""

    @property
    def by_label(self) -> bool:
        """Whether it asks for labels."""
        return self.keep is not None or bool(self.drop)

    @property
    def by_number(self) -> bool:
        """Whether it asks for numbers."""
        return self.min is not None or self.max is not None or self.percentile is not None

    @model_validator(mode="after")
    def _one_kind(self) -> "Decision":
        if self.by_label and self.by_number:
            raise ValueError("keep and drop are of labels, min, max and percentile of numbers: decide on two metrics")
        if self.within and self.percentile is None:
            raise ValueError("within: only a percentile is taken within groups")
        return self


class Classify(StageSettings):
    """Topics, formats, qualities: what each model says. Metrics: `<model>` its most probable label, `<model>_score` the
    probability of that, `<model>_<label>` each label's, the ensembles by name, and `<metric>_percentile` of those that
    `percentiles` names; null where a model knows none of a document's words."""

    stage: ClassVar[str] = "classify"

    models: dict[str, Classifier] = Field(default_factory=dict)
    """fastText models by a name of yours, e.g. `{topic: {model: s3://models/topic.bin}}`."""
    ensembles: dict[str, Ensemble] = Field(default_factory=dict)
    """Further metrics by name, e.g. `{good: {of: {edu: high, dclm: hq}, how: max}}`."""
    percentiles: dict[str, Ranking] = Field(default_factory=dict)
    """Metrics whose percentile each document gets as `<metric>_percentile`, from 0 to below 100 in tenths: the share of
    the run's own documents (or of its group's) below it, and of half of its equals. E.g. `{good: {within:
    [classify.topic]}}` gives `classify.good_percentile`, for decisions, conditions, `curation.columns`,
    `tokens.mixture.by` and `upsample`."""
    decisions: dict[str, Decision] = Field(default_factory=dict)
    """Which documents are kept, by metric, e.g. `{topic: {drop: [adult]}, good: {percentile: 30, within: [lang]}}`;
    reasons are `classify.<metric>_<rule>`. Without one, documents are only measured."""

    @model_validator(mode="after")
    def _names_fit(self) -> "Classify":
        names = [*self.models, *self.ensembles]
        for name in self.percentiles:
            if name in self.models:
                raise ValueError(
                    f"percentiles.{name}: the most probable label is no number; name {name}{SCORE} or {name}_<label>"
                )
            if name in self.ensembles and self.ensembles[name].settled:
                raise ValueError(f"percentiles.{name}: the ensemble is one of percentiles already")
            names.append(name + PERCENTILE)
        for name in (*self.models, *self.ensembles):
            if not _NAME.match(name):
                raise ValueError(f"{name!r}: names of models and ensembles have letters, digits and '_'")
        scores = {name + SCORE for name in self.models}
        taken = sorted(name for name in names if names.count(name) > 1 or name in scores)
        if taken:
            raise ValueError(f"{taken[0]} names two metrics; rename one")
        for name, ensemble in self.ensembles.items():
            for model in ensemble.of:
                if model not in self.models:
                    raise ValueError(f"ensembles.{name}.of.{model}: no model is named so{_nearest(model, self.models)}")
                columns = self.models[model].labels
                if ensemble.settled and columns is not None and ensemble.of[model] not in columns:
                    raise ValueError(
                        f"ensembles.{name}.of.{model}: percentiles are counted of stored metrics, and models.{model}"
                        f".labels leaves {ensemble.of[model]!r} out; add it there"
                    )
        for name, decision in self.decisions.items():
            if decision.by_label and name not in self.models:
                raise ValueError(
                    f"decisions.{name}: labels are kept and dropped by the name of a model{_nearest(name, self.models)}"
                )
            if decision.percentile is not None and name in self.settled_names():
                raise ValueError(f"decisions.{name}.percentile: the metric is a percentile already; bound it by min")
            if decision.by_number and name in self.models:
                raise ValueError(
                    f"decisions.{name}: the most probable label is no number; bound {name}{SCORE} or {name}_<label>"
                )
        return self

    def asks_columns(self) -> tuple[str, ...]:
        """Those that percentiles are taken within."""
        return self.settles_within()

    def settles_within(self) -> tuple[str, ...]:
        """The same."""
        ranked = (*self.decisions.values(), *self.percentiles.values(), *self.ensembles.values())
        return tuple(dict.fromkeys(column for one in ranked for column in one.within))

    def settled_names(self) -> tuple[str, ...]:
        """The percentiles, and the ensembles of percentiles."""
        joined = (name for name, ensemble in self.ensembles.items() if ensemble.settled)
        return (*(name + PERCENTILE for name in self.percentiles), *joined)

    def percentile_metrics(self) -> tuple[str, ...]:
        """The same."""
        return self.settled_names()

    def bounded(self) -> dict[str, str]:
        """The decisions, of which the percentiles speak for themselves."""
        rules = ("keep", "drop", "min", "max")
        return {
            f"{name}_{r}": name for name, d in self.decisions.items() for r in rules if getattr(d, r) not in (None, ())
        }

    def decides(self) -> frozenset[str]:
        """The decisions and the percentiles."""
        return frozenset({"decisions", "percentiles"})

    def measures(self) -> dict[str, Any]:
        """The models, and the ensembles of what they say."""
        joined = {name: {"of": e.of, "how": e.how} for name, e in self.ensembles.items() if not e.settled}
        return {**super().measures(), "ensembles": joined}

    def label_metrics(self) -> tuple[str, ...]:
        """Each model's most probable label."""
        return tuple(self.models)

    def named_files(self) -> Mapping[str, str]:
        """The models that are not trained in the run."""
        return {f"models.{name}.model": model.model for name, model in self.models.items() if model.model is not None}

    def load(self, artefact: str | None) -> Any:
        """The models by name; with an `artefact`, exactly those that it describes."""
        from raypt.curation.classify.model import load_models  # fastText and compiled kernels

        return load_models(self, artefact)

    def measure(self, view: View, resources: Any) -> Measured:
        """What every model says, and the ensembles."""
        if not self.models:
            return Measured()
        text = view.text.to_arrow()
        answers = {name: resources[name].ask(text) for name in self.models}
        metrics: dict[str, pa.Array] = {}
        for name, answer in answers.items():
            metrics[name] = answer.label
            metrics[name + SCORE] = _numbers(answer.score)
            for label, p in answer.columns.items():
                metrics[f"{name}_{label}"] = _numbers(p)
        for name, ensemble in self.ensembles.items():
            if not ensemble.settled:
                members = np.stack([answers[model].of(label) for model, label in ensemble.of.items()])
                metrics[name] = _numbers(joined(members, mean=ensemble.how == "mean"))
        return Measured(pa.StructArray.from_arrays(list(metrics.values()), names=list(metrics)))

    def settled_metrics(self, attributes: Attributes, settled: Any) -> dict[str, pa.Array]:
        """The percentiles, and the ensembles of percentiles. `settled`: as for `failures`."""
        names = self.settled_names()
        if names and settled is None:
            raise ValueError(f"{attributes.stage}: the percentiles were not settled for the run")
        return {name: _numbers(settled.metric(name, attributes, self)) for name in names}

    def failures(self, attributes: Attributes, settled: Any) -> Iterator[tuple[str, np.ndarray]]:
        """Each decision in order. `settled`: the `Percentiles` of the run, None without one."""
        for name, decision in self.decisions.items():
            if decision.by_label:
                labels = pc.struct_field(attributes.own, name)
                known = labels.is_valid().to_numpy(zero_copy_only=False)
                if decision.keep is not None:
                    yield f"{name}_keep", known & ~_among(labels, decision.keep)
                if decision.drop:
                    yield f"{name}_drop", known & _among(labels, decision.drop)
                continue
            values = attributes.metric(name)
            if decision.min is not None:
                yield f"{name}_min", values < decision.min
            if decision.max is not None:
                yield f"{name}_max", values > decision.max
            if decision.percentile is not None:
                if settled is None:
                    raise ValueError(f"{attributes.stage}: the percentile of {name} was not settled for the run")
                yield f"{name}_percentile", settled.below(name, attributes, decision.within)


def _among(labels: pa.Array, named: Sequence[str]) -> np.ndarray:
    found: np.ndarray = pc.is_in(labels, value_set=pa.array(named, pa.string())).to_numpy(zero_copy_only=False)
    return found


def _numbers(values: np.ndarray) -> pa.Array:
    return pa.array(values, pa.float32(), from_pandas=True)


def joined(members: np.ndarray, *, mean: bool) -> np.ndarray:
    """float32[n] of float32[members, n]: the largest of those that are there, or their mean; NaN where none is."""
    if not mean:
        highest: np.ndarray = np.fmax.reduce(members)
        return highest
    there = ~np.isnan(members)
    count = there.sum(axis=0)
    total = np.where(there, members, 0).sum(axis=0, dtype=np.float64)
    return np.where(count, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _nearest(name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, 1, 0.5)
    if near:
        return f"; did you mean {near[0]}?"
    shown = ", ".join(sorted(names)[:30]) + (", ..." if len(names) > 30 else "")
    return f"; there are {shown}" if names else "; there are none"


def mistakes(settings: Classify, labels: Mapping[str, Sequence[str]], key: str) -> Iterator[str]:
    """Labels and metrics that the settings name and the models do not have. `labels`: of each model that could be
    looked at, without prefix; `key`: of the settings, for the messages."""

    def unknown(model: str, named: Sequence[str], where: str) -> Iterator[str]:
        for label in named:
            if model in labels and label not in labels[model]:
                near = _nearest(label, labels[model])
                shown = settings.models[model].model or f"the model {model}, trained in the run,"
                yield f"{key}.{where}: {shown} has no label {label!r}{near}"

    for name, model in settings.models.items():
        yield from unknown(name, model.labels or (), f"models.{name}.labels")
        if model.labels is None and len(labels.get(name, ())) > MAX_COLUMNS:
            yield (
                f"{key}.models.{name}.labels: {model.model or 'the model'} has {len(labels[name])} labels; name those "
                "whose probabilities you want ([]: none, only the most probable label and its score)"
            )
    for name, ensemble in settings.ensembles.items():
        for member, label in ensemble.of.items():
            yield from unknown(member, [label], f"ensembles.{name}.of.{member}")
    for name, decision in settings.decisions.items():
        if decision.by_label:
            yield from unknown(name, decision.keep or (), f"decisions.{name}.keep")
            yield from unknown(name, decision.drop, f"decisions.{name}.drop")
    if set(labels) != set(settings.models):
        return  # what a model that is not there would add is not known
    metrics = [*settings.ensembles]
    for name, model in settings.models.items():
        own = model.labels if model.labels is not None else labels[name]
        metrics += [name, name + SCORE, *(f"{name}_{label}" for label in own)]
    for name in settings.percentiles:
        if name not in metrics:
            yield f"{key}.percentiles.{name}: no metric has this name{_nearest(name, metrics)}"
    metrics += [name + PERCENTILE for name in settings.percentiles]
    for twice in sorted({a for a, b in itertools.pairwise(sorted(metrics)) if a == b}):
        yield f"{key}: {twice} names two metrics; rename a model or an ensemble"
    for name in settings.decisions:
        if name not in metrics:
            yield f"{key}.decisions.{name}: no metric has this name{_nearest(name, metrics)}"
    for section in ("decisions", "percentiles", "ensembles"):
        for name, ranked in getattr(settings, section).items():
            for column in ranked.within:
                stage, _, metric = column.partition(".")
                if stage == settings.stage and metric not in metrics:  # a further turn has the models of the first, too
                    yield f"{key}.{section}.{name}.within: there is no metric {column}{_nearest(metric, metrics)}"
