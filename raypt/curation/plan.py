"""The stages of a run in order: which settings each has, under which name, and on which documents it works."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from raypt.curation.base import Attributes, Overrides, StageSettings
from raypt.curation.view import View
from raypt.text.buffers import TextBatch


@dataclass(frozen=True)
class Stage:
    """One turn of a stage."""

    name: str
    """Its name in the run: of its attribute column, its account, and at the head of its reasons."""
    settings: StageSettings
    overrides: Overrides = field(default_factory=dict)
    """Thresholds by language."""

    def measure(self, view: View, resources: Any) -> tuple[dict[str, pa.Array], TextBatch | None]:
        """The columns that it adds to the documents of a view, and their new text if it edits."""
        measured = self.settings.measure(view, resources)
        columns = dict(measured.columns)
        if measured.attributes is not None:
            columns[self.name] = measured.attributes
        return columns, measured.text

    def failures(self, tagged: pa.Table, settled: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
        """`(reason, bool[n])` in order."""
        for rule, fails in self.settings.failures(self._attributes(tagged), settled.get(self.name)):
            yield f"{self.name}.{rule}", fails

    def cuts(self, tagged: pa.Table) -> Iterator[tuple[str, np.ndarray]]:
        """`(reason, int64[n] bytes)` by which it made documents shorter."""
        for name, cut in self.settings.cuts(self._attributes(tagged)).items():
            yield f"{self.name}.{name}", cut

    def _attributes(self, tagged: pa.Table) -> Attributes:
        return Attributes(tagged, self.name, self.overrides)
