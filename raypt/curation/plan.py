"""The stages of a run in order: which settings each has, under which name, and on which documents it works."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Discriminator, Field, Tag, field_validator

from raypt.curation import languages
from raypt.curation.base import Attributes, Overrides, StageSettings, numbers
from raypt.curation.view import View
from raypt.errors import UserError
from raypt.settings import Settings
from raypt.text.buffers import TextBatch

_LABEL = re.compile(r"\w+\Z")
DOCUMENT_COLUMNS = frozenset(("doc_key", "id", "source", "url", "text"))
"""Columns that every document has."""
NO_LANGUAGE = (
    "asks for the language of a document, and nothing says it: name the stage `language` before, or set "
    "language.assume, or carry the input's own (corpus.sources[].columns.lang)"
)


class Condition(Settings):
    """What a column must be for a document to meet it; a null value meets no condition."""

    min: float | None = None
    """Smallest value."""
    max: float | None = None
    """Largest value."""
    among: tuple[str, ...] | None = None
    """The values it may have, as strings."""

    def holds(self, values: pa.Array, key: str) -> np.ndarray:
        """bool[n]; `key` is what a mistake in the values is blamed on."""
        met: np.ndarray = values.is_valid().to_numpy(zero_copy_only=False)
        if self.among is not None:
            among = pc.is_in(values.cast(pa.string()), value_set=pa.array(self.among, pa.string()))
            met = met & among.to_numpy(zero_copy_only=False)
        if self.min is not None or self.max is not None:
            value = numbers(values, key)
            met = met & (value >= -np.inf if self.min is None else value >= self.min)
            met = met & (value <= np.inf if self.max is None else value <= self.max)
        return met


class StageEntry(Settings):
    """One turn of a stage, where its name alone does not say all."""

    stage: str
    """Name of a stage; `name@label` for a further turn of one, which has the settings of the first unless `settings`
    says otherwise; `package.module:Name` for a stage of your own."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings that this turn has instead of those of the stage's section."""
    when: dict[str, Condition] = Field(default_factory=dict)
    """The stage works on the documents that meet all these conditions, and passes the others. By column: one of the
    input, one that an earlier stage adds (`lang`, `quality_score`), or a metric of one (`gopher_quality.word_count`).
    E.g. `{lang: en, quality_score: {max: 0.5}}`; a word or a list of words stands for `among`."""

    @field_validator("when", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        words = {k: (v,) if isinstance(v, str) else v for k, v in value.items()}
        return {k: {"among": tuple(v)} if isinstance(v, list | tuple) else v for k, v in words.items()}


Entry = Annotated[
    # config_io leaves tags that begin so out of the keys in its messages.
    Annotated[str, Tag("function-name")] | Annotated[StageEntry, Tag("function-entry")],
    Discriminator(lambda value: "function-name" if isinstance(value, str) else "function-entry"),
]
"""An entry of `curation.stages`."""


@dataclass(frozen=True)
class Stage:
    """One turn of a stage."""

    name: str
    """Its name in the run: of its account, and at the head of its reasons."""
    settings: StageSettings
    overrides: Overrides = field(default_factory=dict)
    """Thresholds by language."""
    when: Mapping[str, Condition] = field(default_factory=dict)
    """Conditions by column; documents that do not meet all of them are passed."""
    later: frozenset[str] = frozenset()
    """Columns of `when` that are settled once the run is measured: the stage measures whatever they will be."""

    @property
    def column(self) -> str:
        """Of its metrics: its name, unless documents have a column of that name themselves, which stays as it is."""
        return f"{self.name}_metrics" if self.name in DOCUMENT_COLUMNS else self.name

    def measure(self, view: View, resources: Any) -> tuple[dict[str, pa.Array], TextBatch | None]:
        """The columns that it adds to the documents of a view, and their new text if it edits."""
        columns, text = self._measure_where(view, resources)
        if text is not None and self.later:
            raise UserError(f"curation.stages: {self.name} edits text, {_EDITS_LATER.format(sorted(self.later)[0])}")
        return columns, text

    def _measure_where(self, view: View, resources: Any) -> tuple[dict[str, pa.Array], TextBatch | None]:
        if not set(self.when) - self.later:
            return self._measure(view, resources)
        met = np.ones(len(view), bool)
        for name in self.when:
            if name not in self.later:
                met &= self._holds(name, self._column(view.columns, name))
        rows = np.flatnonzero(met)
        chosen = view.rows(rows)
        columns, text = self._measure(chosen, resources)
        back = pa.array(np.cumsum(met) - 1, mask=~met)
        columns = {name: _merged(view.columns.get(name), column.take(back), met) for name, column in columns.items()}
        if text is None:
            return columns, None
        edited = text.to_arrow().cast(pa.large_string()).take(back)
        return columns, TextBatch.from_arrow(pc.coalesce(edited, view.text.to_arrow().cast(pa.large_string())))

    def _holds(self, name: str, column: pa.Array) -> np.ndarray:
        condition = self.when[name]
        if name == "lang" and condition.among is not None:
            codes = pc.unique(column.drop_null()).to_pylist()
            named = tuple(code for code in codes if languages.match(code, condition.among) is not None)
            condition = condition.model_copy(update={"among": named})
        return condition.holds(column, f"curation.stages: {self.name}: when.{name}")

    def _measure(self, view: View, resources: Any) -> tuple[dict[str, pa.Array], TextBatch | None]:
        measured = self.settings.measure(view, resources)
        columns = dict(measured.columns)
        if measured.attributes is not None:
            columns[self.column] = measured.attributes
        return columns, measured.text

    def _column(self, columns: Mapping[str, pa.Array], name: str) -> pa.Array:
        if name in columns:
            return columns[name]
        stage, _, metric = name.partition(".")
        if metric and stage in columns and pa.types.is_struct(columns[stage].type):
            own = columns[stage]
            if own.type.get_field_index(metric) >= 0:
                return pc.struct_field(own, metric)
        raise UserError(
            f"curation.stages: {self.name} works where {name} has a certain value, but no column has this name; "
            f"there are {', '.join(sorted(columns))}"
        )

    def failures(self, tagged: pa.Table, settled: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
        """`(reason, bool[n])` in order. `tagged` has the settled metrics, if a condition asks for one."""
        attributes = self._attributes(tagged)
        met = np.ones(len(tagged), bool)
        for name in self.later:
            met &= self._holds(name, attributes.named(name))
        for rule, fails in self.settings.failures(attributes, settled.get(self.name)):
            yield f"{self.name}.{rule}", fails & met

    def measured(self, tagged: pa.Table) -> dict[str, int]:
        """Reason -> documents that have what the rule looks at."""
        attributes, out = self._attributes(tagged), {}
        for rule, name in self.settings.bounded().items():
            foreign = name in self.settings.asks_columns()
            values = attributes.named(name) if foreign else pc.struct_field(attributes.own, name)
            there = pc.fill_null(pc.invert(pc.is_null(values, nan_is_null=True)), False)
            out[f"{self.name}.{rule}"] = int(pc.sum(there).as_py() or 0)
        return out

    def settled_metrics(self, tagged: pa.Table, settled: Mapping[str, Any]) -> dict[str, pa.Array]:
        """By `<stage>.<metric>`: what is known only now that the run is measured."""
        found = self.settings.settled_metrics(self._attributes(tagged), settled.get(self.name))
        return {f"{self.name}.{metric}": column for metric, column in found.items()}

    def cuts(self, tagged: pa.Table) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """`(reason, int64[n] bytes, bool[n])`: by how much it made documents shorter, and which it changed."""
        attributes = self._attributes(tagged)
        changed = self.settings.changed(attributes)
        for name, cut in self.settings.cuts(attributes).items():
            yield f"{self.name}.{name}", cut, changed.get(name, cut != 0)

    def _attributes(self, tagged: pa.Table) -> Attributes:
        return Attributes(tagged, self.name, self.overrides, self.column)


_EDITS_LATER = (
    "and whether a document meets its condition on {} is known only when all are measured; state the condition on a "
    "metric that an earlier stage measures, or run the stage on all documents"
)


def with_later(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """The stages, each knowing which of its conditions are settled once the run is measured."""
    stages = tuple(stages)
    settled = {f"{stage.name}.{metric}" for stage in stages for metric in stage.settings.settled_names()}
    return tuple(replace(stage, later=frozenset(settled & set(stage.when))) for stage in stages)


def _merged(before: pa.Array | None, found: pa.Array, met: np.ndarray) -> pa.Array:
    """A column as it was where the condition is not met: what is not measured does not undo what was."""
    if before is None or before.type != found.type or pa.types.is_nested(found.type):
        return found
    return pc.if_else(pa.array(met), found, before)


def split_name(name: str) -> tuple[str, str]:
    """`(stage, name in the run)` of an entry of `curation.stages`; raises ValueError for a label that is none."""
    stage, at, label = name.partition("@")
    if at and not _LABEL.match(label):
        raise ValueError(f"{name!r}: the label after '@' may have letters, digits and '_'")
    return stage, name


def check_order(stages: Iterable[Stage], *, language_known: bool, segmenters: bool = False) -> None:
    """ValueError if the order of the stages switches a rule off: one that asks the language of a document before it is
    known, or a condition on what is only measured later.

    `language_known`: it is given, by the input or by the configuration; `segmenters`: there is one for some language.
    Without a stage that finds it, nothing is said:
    a table may have a column `lang`.
    """
    stages = tuple(stages)
    settled = {f"{stage.name}.{metric}" for stage in stages for metric in stage.settings.settled_names()}
    for stage in stages:
        if stage.later and stage.settings.edits:
            raise ValueError(f"stages: {stage.name} edits text, {_EDITS_LATER.format(sorted(stage.later)[0])}")
        for column in stage.settings.settles_within():
            if column in settled:
                raise ValueError(
                    f"stages: {stage.name} takes percentiles within the groups of {column}, which is settled together "
                    "with them; name columns that are known before"
                )
    finders = [i for i, stage in enumerate(stages) if "lang" in stage.settings.adds]
    first = finders[0] if finders else len(stages)
    for i, stage in enumerate(stages):
        rule = stage.settings.asks_language()
        if rule is not None and i < first < len(stages) and not language_known:
            raise ValueError(
                f"stages: {stage.name} comes before {stages[first].name}, so {stage.name}.{rule} would never apply; "
                f"put {stages[first].name} before it, or switch the rule off"
            )
        if segmenters and stage.settings.segmented and i < first < len(stages) and not language_known:
            raise ValueError(
                f"stages: {stage.name} comes before {stages[first].name}, so no document has the words of its "
                f"language's segmenter (words.segmenters) there; put {stages[first].name} before it"
            )
        for column in stage.when:
            head = column.partition(".")[0]
            later = [s.name for s in stages[i:] if head in (s.column, *s.settings.adds)]
            sooner = any(head in (s.column, *s.settings.adds) for s in stages[:i])
            if later and not sooner and not (head == "lang" and language_known):
                raise ValueError(f"stages: {stage.name} asks for {column}, which only {later[0]} after it finds")


def check_inputs(stages: Iterable[Stage], carried: frozenset[str], *, language_known: bool) -> None:
    """ValueError if a rule would be off, or fail, for want of a column: a language that nothing finds or gives, a
    number to bound or a condition on a column that no source carries and no stage adds.

    `carried`: the columns of the documents as they are read.
    """
    stages = tuple(stages)
    added = {name for stage in stages for name in (stage.column, *stage.settings.adds)}
    given = carried | {"lang"} if language_known else carried
    for stage in stages:
        rule = stage.settings.asks_language()
        if rule is not None and "lang" not in given | added:
            raise ValueError(f"stages: {stage.name}.{rule} {NO_LANGUAGE}, or switch the rule off")
        for column in (*stage.when, *stage.settings.asks_columns()):
            head = column.partition(".")[0]
            if column in given or (head in added and head not in stage.settings.adds):
                continue
            if column == "lang" and "lang" not in stage.settings.adds:
                raise ValueError(f"stages: {stage.name} {NO_LANGUAGE}")
            raise ValueError(
                f"stages: {stage.name} asks for the column {column}, which no source carries (corpus.sources[]"
                f".columns) and no stage adds; there are {', '.join(sorted(carried | added))}"
            )
