"""What a family of document rules is: settings whose `*_min` and `*_max` fields bound metrics, and the metrics.

A rule's reason is `<stage>.<field>`, e.g. `gopher_quality.word_count_min`: the field names the metric it bounds, the
metrics are the fields of the stage's attribute column. A document fails a `_min` rule when its metric is below the
threshold, a `_max` rule when above; a metric that is null does not apply to the document and fails no rule.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from raypt.settings import Settings

CUT_PREFIX = "cut_bytes_"
"""Attributes that say how many bytes an editing stage cut from a document, by reason, begin with this."""


@dataclass(frozen=True)
class Bound:
    """One threshold of a stage: `metric` (a field of the attribute column) must not be below (or above) it."""

    key: str
    metric: str
    is_minimum: bool
    threshold: float | None

    def fails(self, values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
        """bool[n]; NaN on either side (rule does not apply, rule is off) fails nothing."""
        return values < thresholds if self.is_minimum else values > thresholds


class RuleSettings(Settings):
    """Base of a stage's settings; subclasses name the stage and its metrics."""

    stage: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]

    def bounds(self) -> Iterator[Bound]:
        """The stage's thresholds, in the order of their fields: the first that fails gives the reason."""
        for key in type(self).model_fields:
            metric, _, side = key.rpartition("_")
            if side in ("min", "max") and metric in self.metrics:
                yield Bound(key, metric, side == "min", getattr(self, key))


def struct(columns: dict[str, np.ndarray | pa.Array]) -> pa.StructArray:
    """An attribute column; NaN becomes null ("does not apply")."""
    arrays = [c if isinstance(c, pa.Array) else pa.array(c, from_pandas=True) for c in columns.values()]
    return pa.StructArray.from_arrays(arrays, names=list(columns))


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """float64 `part / whole`, 0 where `whole` is 0."""
    out = np.zeros(len(part))
    np.divide(part, whole, out=out, where=np.asarray(whole) != 0)
    return out
