"""What a family of document rules is: settings whose `*_min` and `*_max` fields bound metrics, and the metrics.

A rule's reason is `<stage>.<field>`, e.g. `gopher_quality.word_count_min`: the field names the metric it bounds, the
metrics are the fields of the stage's attribute column. A document fails a `_min` rule when its metric is below the
threshold, a `_max` rule when above; a metric that is null does not apply to the document and fails no rule.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from raypt.curation import languages
from raypt.curation.base import Attributes, StageSettings

SIDES = ("_min", "_max")


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


class RuleSettings(StageSettings):
    """Base of a stage's settings; subclasses name the stage and its metrics.

    Every field that ends in `_min` or `_max` bounds the metric of that name, or steers the edit and is listed in
    `edit_settings`; any other is refused when the class is defined, since a threshold on nothing would be off in
    silence.
    """

    metrics: ClassVar[tuple[str, ...]] = ()
    edit_settings: ClassVar[tuple[str, ...]] = ()
    """Fields that end in `_min` or `_max` and bound no metric of the document: they decide what is cut from it."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        for key in cls.model_fields:
            if key.endswith(SIDES) and key[:-4] not in cls.metrics and key not in cls.edit_settings:
                known = ", ".join(cls.metrics) or "none"
                raise TypeError(
                    f"{cls.__name__}.{key}: no metric is named {key[:-4]!r} (metrics: {known}), so the threshold would "
                    "never be asked; name the field after a metric, or list it in edit_settings"
                )

    def bounds(self) -> Iterator[Bound]:
        """The stage's thresholds, in the order of their fields: the first that fails gives the reason."""
        for key in type(self).model_fields:
            if key.endswith(SIDES) and key not in self.edit_settings:
                yield Bound(key, key[:-4], key.endswith("_min"), getattr(self, key))

    def bounded(self) -> dict[str, str]:
        """The thresholds that are on."""
        return {bound.key: bound.metric for bound in self.bounds() if bound.threshold is not None}

    def decides(self) -> frozenset[str]:
        """The thresholds."""
        return frozenset(bound.key for bound in self.bounds()) & frozenset(type(self).model_fields)

    def failures(self, attributes: Attributes, settled: Any) -> Iterator[tuple[str, np.ndarray]]:
        """Each threshold that is on, under the values of the document's language where these differ."""
        for bound in self.bounds():
            special = {lang: values[bound.key] for lang, values in attributes.overrides.items() if bound.key in values}
            if bound.threshold is None and not special:
                continue
            thresholds = np.full(len(attributes), np.nan if bound.threshold is None else float(bound.threshold))
            if special:
                codes = attributes.languages.dictionary_encode()
                values = list(thresholds[:1]) * (len(codes.dictionary) + 1)
                for i, label in enumerate(codes.dictionary.to_pylist()):
                    key = languages.match(label, special)
                    if key is not None:
                        value = special[key]
                        values[i] = np.nan if value is None else float(value)
                index = codes.indices.fill_null(len(codes.dictionary)).to_numpy(zero_copy_only=False)
                thresholds = np.array(values)[index] if len(attributes) else thresholds
            yield bound.key, bound.fails(attributes.metric(bound.metric), thresholds)


def struct(columns: dict[str, np.ndarray | pa.Array]) -> pa.StructArray:
    """An attribute column; NaN becomes null ("does not apply")."""
    arrays = [c if isinstance(c, pa.Array) else pa.array(c, from_pandas=True) for c in columns.values()]
    return pa.StructArray.from_arrays(arrays, names=list(columns))


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """float64 `part / whole`, 0 where `whole` is 0."""
    out = np.zeros(len(part))
    np.divide(part, whole, out=out, where=np.asarray(whole) != 0)
    return out
