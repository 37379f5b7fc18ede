"""What a stage of curation is: settings that measure documents, decide on what was measured, and account for edits.

A stage is one class in one file, and one field of `CurationConfig` (or a user's own class, named by
`package.module:Name`). The tagger, the decisions and the ledger know no stage by name.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt.curation.view import Measured, View
from raypt.errors import UserError
from raypt.settings import Settings

CUT_PREFIX = "cut_bytes_"
"""Attributes that say how many bytes an editing stage cut from a document, by reason, begin with this."""

CHANGED_PREFIX = "changed_"
"""Attributes (bool) that say which documents an editing stage changed, by reason, where bytes alone do not show it."""

Overrides = Mapping[str, Mapping[str, float | None]]
"""Thresholds that differ for a language: language -> key -> value."""


class Attributes:
    """Tagged documents as one stage decides on them: the columns of the table, and its own among them."""

    def __init__(
        self, tagged: pa.Table, stage: str, overrides: Overrides | None = None, own: str | None = None
    ) -> None:
        """`stage`: its name in the run; `own`: the column of its metrics, None: named like it."""
        self.stage, self.overrides = stage, overrides or {}
        self._tagged, self._own = tagged, own or stage

    def __len__(self) -> int:
        return len(self._tagged)

    def __contains__(self, column: str) -> bool:
        return column in self._tagged.column_names

    def column(self, name: str) -> pa.Array:
        """A column of the table; ValueError if the documents were tagged without it."""
        if name not in self:
            raise ValueError(
                f"curation.stages: {self.stage} is on, but the documents were tagged without it (no column {name!r}); "
                "tag them again"
            )
        column = self._tagged.column(name).combine_chunks()
        return column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks)

    def named(self, name: str) -> pa.Array:
        """A column of the table, or a metric of a stage as `stage.metric`."""
        stage, _, metric = name.partition(".")
        if name in self or not metric or stage not in self:
            return self.column(name)
        own = self.column(stage)
        if not pa.types.is_struct(own.type) or own.type.get_field_index(metric) < 0:
            raise ValueError(f"curation.stages: {self.stage} asks for {name}, but {stage} has no metric {metric!r}")
        return pc.struct_field(own, metric)

    @property
    def own(self) -> pa.StructArray:
        """The stage's metrics."""
        return self.column(self._own)

    def metric(self, name: str) -> np.ndarray:
        """float64[n] of one metric of the stage, NaN where it does not apply."""
        values: np.ndarray = pc.struct_field(self.own, name).cast(pa.float64()).to_numpy(zero_copy_only=False)
        return values

    @property
    def languages(self) -> pa.Array:
        """string[n], null where unknown."""
        return self.column("lang") if "lang" in self else pa.nulls(len(self), pa.string())


class StageSettings(Settings):
    """Base of every stage: its settings, and what it does under them.

    `measure` runs on the workers and must be a pure function of the view; what it needs beside the text (a model) is
    what `load` returned there. `failures` and `cuts` read attribute columns only, so that thresholds change without
    measuring again.
    """

    stage: ClassVar[str]
    """Name in `curation.stages`, of the attribute column, and at the head of every reason."""
    repeatable: ClassVar[bool] = True
    """Whether it can be run more than once in a run, under `name@label`."""
    edits: ClassVar[bool] = False
    """Whether it may rewrite the text."""
    segmented: ClassVar[bool] = False
    """Whether its words are a segmenter's where one is configured for a document's language."""
    adds: ClassVar[tuple[str, ...]] = ()
    """Columns that it adds under names of their own."""

    def asks_language(self) -> str | None:
        """A setting that is on and does nothing to a document whose language is not known when it is measured."""
        return None

    def asks_columns(self) -> tuple[str, ...]:
        """Columns of the documents, or metrics of other stages, that it decides on."""
        return ()

    def named_languages(self) -> Mapping[str, Iterable[str]]:
        """The languages that a setting is said for, by its key; those of defaults need not be named. One that no
        document has is a mistake, told before work starts."""
        return {}

    def named_files(self) -> Mapping[str, str]:
        """Path or URI by its key of what `load` and `measure` read; each must be there before work starts."""
        return {}

    def bounded(self) -> Mapping[str, str]:
        """Rule -> what it looks at, of the rules that are on and pass a document without it: a metric of its own, or
        one of `asks_columns`. A run in which no document has it says so."""
        return {}

    def label_metrics(self) -> tuple[str, ...]:
        """Metrics of its own that are labels: the report counts documents by them."""
        return ()

    def percentile_metrics(self) -> tuple[str, ...]:
        """Metrics of its own, percentiles from 0 to 100: the report counts documents by twentieths of the run."""
        return ()

    def settled_names(self) -> tuple[str, ...]:
        """Names of its `settled_metrics`."""
        return ()

    def settles_within(self) -> tuple[str, ...]:
        """Columns in whose groups it takes percentiles, which must be known when all documents are measured."""
        return ()

    def number_metrics(self) -> tuple[str, ...]:
        """Metrics of its own, positive numbers, whose distribution by language the report shows."""
        return ()

    def decides(self) -> frozenset[str]:
        """Settings that change decisions and not what is measured."""
        return frozenset()

    def measures(self) -> dict[str, Any]:
        """The other settings, as JSON: what the metrics and the text are a function of."""
        return self.model_dump(mode="json", exclude=set(self.decides()))

    def packages(self) -> Mapping[str, str]:
        """Packages beside raypt's own that `measure` needs, and how to install each; every node must have the same
        version, which is part of what identifies the tagged documents."""
        return {}

    def load(self, artefact: str | None) -> Any:
        """What `measure` needs beside the text, once a process. `artefact`: URI of what was made for this stage in the
        run, None if nothing was."""
        return None

    def measure(self, view: View, resources: Any) -> Measured:
        """Metrics of every document of the view, and its new text if the stage edits."""
        raise NotImplementedError

    def failures(self, attributes: Attributes, settled: Any) -> Iterator[tuple[str, np.ndarray]]:
        """`(rule, bool[n] fails)` in order: the first that fails gives the reason `<stage>.<rule>`.

        `settled`: what was settled for this stage once for the whole run (a threshold from a percentile), or None.
        """
        yield from ()

    def settled_metrics(self, attributes: Attributes, settled: Any) -> dict[str, pa.Array]:
        """Metrics of its own that are known only when all documents of the run are measured (the bucket of a
        percentile): the curated documents have them beside the others. `settled`: as for `failures`."""
        return {}

    def cuts(self, attributes: Attributes) -> dict[str, np.ndarray]:
        """int64[n] by reason: bytes by which `measure` made each document shorter (negative: longer)."""
        found = _by_reason(attributes, CUT_PREFIX)
        return {reason: pc.fill_null(column, 0).to_numpy() for reason, column in found.items()}

    def changed(self, attributes: Attributes) -> dict[str, np.ndarray]:
        """bool[n] by reason of `cuts`: documents whose text `measure` changed; those cut by some bytes if not said."""
        found = _by_reason(attributes, CHANGED_PREFIX)
        return {name: pc.fill_null(column, False).to_numpy(zero_copy_only=False) for name, column in found.items()}


def _by_reason(attributes: Attributes, prefix: str) -> dict[str, pa.Array]:
    """The stage's metrics whose names begin with `prefix`, by the rest of their names; null: not measured."""
    if attributes.stage not in attributes:
        return {}
    own = attributes.own
    names = [f.name for f in own.type if f.name.startswith(prefix)]
    return {name.removeprefix(prefix): pc.struct_field(own, name) for name in names}


def numbers(values: pa.Array, key: str) -> np.ndarray:
    """float64[n], NaN where there is no value. A string that is no number is a UserError that names the `key`."""
    try:
        cast: np.ndarray = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return cast
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        pass
    if not pa.types.is_string(values.type):
        raise UserError(f"{key}: the column holds {values.type}, which has no size to compare")
    wrong = next(text for text in pc.unique(values.drop_null()).to_pylist() if not _is_number(text))
    raise UserError(f"{key}: the column holds {wrong[:80]!r}, which is no number")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
