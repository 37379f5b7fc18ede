"""Stages of a user's own, by `package.module:Name`: a class like those of raypt, or a function of a batch.

A function takes a `pyarrow.Table` of documents (`text` as the stages before left it, `lang`, `url`, the carried columns
and the metrics so far) and returns one array or a mapping of arrays with a value a document: strings are reasons for
removal (null: kept), numbers are metrics, which `settings: {<metric>_min: ..., <metric>_max: ...}` of its entry bound
(the metric of a single array is called `value`).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict, Field, ValidationError, model_validator

from raypt import plugins
from raypt.curation.base import Attributes, StageSettings, numbers
from raypt.curation.view import Measured, View
from raypt.errors import UserError

Function = Callable[[pa.Table], "pa.Array | pa.ChunkedArray | Mapping[str, pa.Array]"]

SIDES = ("_min", "_max")
REASON = "reason"
_REASON = re.compile(r"\w{1,64}\Z")


class FunctionStage(StageSettings):
    """A user's function as a stage; its extra fields are thresholds."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None] = Field(init=False)

    stage: ClassVar[str] = "function"

    function: plugins.PluginName
    """Where it is: `package.module:name`."""
    key: str
    """The configuration key that names it, for messages."""

    @model_validator(mode="after")
    def _thresholds_have_a_side(self) -> "FunctionStage":
        for name in self.thresholds:
            if not name.endswith(SIDES):
                raise ValueError(f"{name}: a threshold is named <metric>_min or <metric>_max")
        return self

    @property
    def thresholds(self) -> dict[str, float | None]:
        """By key, in order."""
        return self.__pydantic_extra__

    def bounded(self) -> dict[str, str]:
        """The thresholds that are on."""
        return {key: key[:-4] for key, threshold in self.thresholds.items() if threshold is not None}

    def decides(self) -> frozenset[str]:
        """The thresholds."""
        return frozenset(self.thresholds)

    def load(self, artefact: str | None) -> Function:
        """The function, imported in this process."""
        found: Function = plugins.load(self.function, self.key)
        return found

    def measure(self, view: View, resources: Function) -> Measured:
        """What the function returns, checked."""
        columns = {"text": view.text.to_arrow(), **view.columns}
        found = resources(pa.table(columns))
        named = found if isinstance(found, Mapping) else {None: found}
        attributes: dict[str, pa.Array] = {}
        for name, values in named.items():
            array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
            if not isinstance(array, pa.Array) or len(array) != len(view):
                got = f"{len(array)} values" if isinstance(array, pa.Array) else type(values).__name__
                raise UserError(
                    f"{self.key}={self.function} must return a pyarrow array (or a mapping of them) with a value for "
                    f"each of the {len(view)} documents of a batch, not {got}"
                )
            text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type) or array.type == pa.null()
            key = name or (REASON if text else "value")
            attributes[key] = array.cast(pa.string()) if key == REASON else pa.array(numbers(array, self._of(key)))
        for threshold in self.thresholds:
            if threshold[:-4] not in attributes or threshold[:-4] == REASON:
                raise UserError(
                    f"{self.key}: {self.function} has no metric {threshold[:-4]!r} that {threshold} could bound; it "
                    f"returns {', '.join(attributes)}"
                )
        struct = pa.StructArray.from_arrays(list(attributes.values()), names=list(attributes))
        return Measured(struct)

    def failures(self, attributes: Attributes, settled: Any = None) -> Iterator[tuple[str, np.ndarray]]:
        """The reasons it gave, in alphabetical order, then the thresholds in theirs."""
        own = attributes.own
        if own.type.get_field_index(REASON) >= 0:
            given = pc.struct_field(own, REASON)
            for reason in sorted(pc.unique(given.drop_null()).to_pylist()):
                if not _REASON.match(reason):
                    raise UserError(
                        f"{self.key}={self.function} gives the reason {reason[:80]!r}: a reason has at most 64 "
                        "letters, digits and '_'"
                    )
                yield reason, pc.fill_null(pc.equal(given, reason), False).to_numpy(zero_copy_only=False)
        for key, threshold in self.thresholds.items():
            if threshold is not None:
                values = attributes.metric(key[:-4])
                yield key, values < threshold if key.endswith("_min") else values > threshold

    def _of(self, metric: str) -> str:
        return f"{self.key}={self.function}: {metric}"


def custom_stage(name: str, settings: Mapping[str, Any], key: str) -> StageSettings:
    """The stage that `package.module:Name` stands for, with these settings.

    Raises:
        UserError: there is no such code, it is neither a stage nor callable, or its settings are wrong.
    """
    found = plugins.load(name, key)
    cls: type[StageSettings] = FunctionStage
    given: dict[str, Any] = {**settings, "function": name, "key": key}
    if isinstance(found, type):
        if not issubclass(found, StageSettings):
            raise UserError(
                f"{key}={name} is a class, but not a stage: derive it from raypt.curation.base.StageSettings or "
                "raypt.curation.rules.base.RuleSettings, or name a function"
            )
        cls, given = found, dict(settings)
    elif not callable(found):
        raise UserError(f"{key}={name} is a {type(found).__name__}, neither a class nor a function")
    try:
        return cls.model_validate(given)
    except ValidationError as e:
        raise UserError(f"{key}={name}: its settings are wrong: {mistakes(e)}") from None


def mistakes(error: ValidationError) -> str:
    """What is wrong with the settings of one stage, in a line."""
    out = []
    for one in error.errors():
        where, message = ".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")
        out.append(f"{where}: {message}" if where else message)
    return "; ".join(out)
