"""Bounds on numbers that documents carry: scores of the input (`edu_score`, `toxicity`), metrics of other stages."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, Field

from raypt.curation.base import Attributes, StageSettings, numbers
from raypt.curation.view import Measured, View
from raypt.settings import Settings


class ColumnBounds(Settings):
    """What a number must be."""

    min: float | None = None
    """Smallest value kept."""
    max: float | None = None
    """Largest value kept."""
    missing: Literal["keep", "drop"] = "keep"
    """What becomes of documents without a value: the bounds do not apply to them (keep), or they go (drop)."""


class Columns(StageSettings):
    """Bounds by column, e.g. `{edu_score: {min: 3}, toxicity: {max: 0.2}}`: a column that `corpus.sources[].columns`
    carries, one that a stage adds, or a metric of one (`gopher_quality.word_count`). Reasons are `columns.<name>_min`,
    `columns.<name>_max` and `columns.<name>_missing`."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, ColumnBounds] = Field(init=False)

    stage: ClassVar[str] = "columns"
    repeatable: ClassVar[bool] = False

    @property
    def bounds(self) -> dict[str, ColumnBounds]:
        """The bounds by column, in order."""
        return self.__pydantic_extra__

    def asks_columns(self) -> tuple[str, ...]:
        """Those with bounds."""
        return tuple(self.bounds)

    def bounded(self) -> dict[str, str]:
        """Those with a bound."""
        sides = [
            (name, side) for name, b in self.bounds.items() for side in ("min", "max") if getattr(b, side) is not None
        ]
        return {f"{name}_{side}": name for name, side in sides}

    def decides(self) -> frozenset[str]:
        """Everything: nothing is measured here."""
        return frozenset(self.bounds)

    def measure(self, view: View, resources: Any = None) -> Measured:
        """Nothing: the columns are there."""
        return Measured()

    def failures(self, attributes: Attributes, settled: Any = None) -> Iterator[tuple[str, np.ndarray]]:
        """Each bound in order."""
        for name, bound in self.bounds.items():
            values = numbers(attributes.named(name), f"curation.columns.{name}")
            if bound.missing == "drop":
                yield f"{name}_missing", np.isnan(values)
            if bound.min is not None:
                yield f"{name}_min", values < bound.min
            if bound.max is not None:
                yield f"{name}_max", values > bound.max
