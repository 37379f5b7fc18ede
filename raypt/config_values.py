"""A value as a person writes it, read as what its key takes: numbers with units, and text that stays text.

YAML guesses types from spelling: `no` is false, `001` is 1, `12:30` is 750, `1e3` is text. Here the key decides.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

NULLS = ("null", "Null", "NULL", "~", "")
MAX_MAGNITUDE = 30
"""Powers of ten a number may have: more is a slip, and an int of so many digits a way to fill the memory."""

_NUMBER = re.compile(r"([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)")
_POWERS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {
    f"{letter}i": 2 ** (10 * power) for power, letter in enumerate("KMGT", 1)
}
_SECONDS: dict[str, int | Decimal] = {
    "ms": Decimal("0.001"), "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400,
}  # fmt: skip

UNITS_HELP = """\
Numbers: 2k, 3M, 1.5G, 4T are powers of 1000, Ki, Mi, Gi, Ti of 1024, 1e3 and 1_000 are read too. Keys in bytes take
64MB and 64MiB as well, keys in seconds (..._s) 500ms, 90s, 5m, 2h, 3d, 1w. Text is taken as it stands (no, 001, *.gz,
a #b); null is nothing. A list is [a, b], one text is a list of one, a mapping is {a: 1}; inside of them, quote what has
commas, brackets or a leading *."""


def unit_of(name: str) -> Literal["bytes", "seconds"] | None:
    """What a number is in, by the name of its key: `max_bytes`, `start_timeout_s`; None: a count or a share."""
    if "bytes" in name.split("_"):
        return "bytes"
    return "seconds" if name.endswith("_s") else None


def parse_number(text: str, unit: Literal["bytes", "seconds"] | None, *, whole: bool) -> int | float | None:
    """The number that a text stands for; None if it is none at all (say `much`).

    Raises:
        ValueError: a unit that the key does not have, or a fraction where it wants a whole number.
    """
    match = _NUMBER.fullmatch(text.strip())
    if not match:
        return None
    digits, suffix = match.groups()
    size = Decimal(digits.replace("_", ""))
    factor: int | Decimal
    if suffix in _POWERS:
        factor = _POWERS[suffix]
    elif suffix.endswith("B") and suffix[:-1] in _POWERS:
        if unit != "bytes":
            raise ValueError(f"{suffix!r} counts bytes, and this key does not (powers of 1000 are k, M, G, T)")
        factor = _POWERS[suffix[:-1]]
    elif suffix in _SECONDS:
        if unit != "seconds":
            raise ValueError(f"{suffix!r} is a time, and this key is not in seconds")
        factor = _SECONDS[suffix]
    else:
        return None
    if size.adjusted() > MAX_MAGNITUDE:
        raise ValueError("the number is too large")
    value = size * factor
    if not whole:
        return float(value)
    if value != value.to_integral_value():
        raise ValueError(f"{value} is not a whole number")
    return int(value)


@dataclass(frozen=True)
class Slot:
    """A place in a configuration: the type that its key declares, and the key's own name, which tells the unit."""

    annotation: Any = Any
    name: str = ""

    def alternatives(self) -> list[Any]:
        """The types that the annotation allows, None apart."""
        return list(_members(self.annotation))

    def nullable(self) -> bool:
        return self.annotation is Any or NoneType in _members(self.annotation, none=True)

    def section(self) -> type[BaseModel] | None:
        return next((a for a in self.alternatives() if isinstance(a, type) and issubclass(a, BaseModel)), None)

    def is_text(self) -> bool:
        """Whether any spelling is a value here."""
        types = self.alternatives()
        return bool(types) and all(_is_text(t) for t in types)

    def holds(self) -> "Slot | None":
        """What a list or a mapping at this place holds, if it takes one."""
        for kind in self.alternatives():
            arguments = get_args(kind)
            if get_origin(kind) in (tuple, list, set, frozenset) and arguments:
                return Slot(arguments[0], self.name)
            if get_origin(kind) is dict:
                return Slot(arguments[1], self.name)
        return None

    def takes_texts(self) -> bool:
        """Whether a list of text stands here; one text is a list of one."""
        inner = self.holds()
        lists = [t for t in self.alternatives() if get_origin(t) in (tuple, list, set, frozenset)]
        return len(lists) == len(self.alternatives()) and inner is not None and inner.is_text()

    def child(self, step: str | int) -> "Slot":
        """The place one step further: a key of a section or a mapping, an index of a list. Any where there is none."""
        for kind in self.alternatives():
            arguments = get_args(kind)
            if isinstance(step, int) and get_origin(kind) in (tuple, list, set, frozenset):
                if arguments[-1] is Ellipsis or len(arguments) == 1:
                    return Slot(arguments[0], self.name)
                return Slot(arguments[step] if step < len(arguments) else Any, self.name)
            if isinstance(step, str) and get_origin(kind) is dict:
                return Slot(arguments[1], step)
            if isinstance(step, str) and isinstance(kind, type) and issubclass(kind, BaseModel):
                if step in kind.model_fields:
                    return Slot(kind.model_fields[step].annotation, step)
                return Slot()
        return Slot(Any, self.name)


def _members(annotation: Any, *, none: bool = False) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _members(get_args(annotation)[0], none=none)
    elif origin in (Union, UnionType):
        for argument in get_args(annotation):
            yield from _members(argument, none=none)
    elif annotation is NoneType or annotation is None:
        if none:
            yield NoneType
    else:
        yield annotation


def _is_text(kind: Any) -> bool:
    return kind is str or (get_origin(kind) is Literal and all(isinstance(a, str) for a in get_args(kind)))


def read_scalar(text: str, slot: Slot, *, quoted: bool = False) -> Any:
    """One plain or quoted value, as its place takes it; what fits nothing stays text, for the schema to refuse.

    Raises:
        ValueError: a number with a unit that the key does not have, or a fraction where it wants a whole number.
    """
    types = slot.alternatives()
    if not quoted and text in NULLS and slot.nullable():
        return None
    if Any in types or not types:
        return text if quoted else _guess(text)
    if not quoted and text in NULLS and slot.section() is not None:
        return {}  # `train:` with nothing but comments under it
    if slot.takes_texts() and text not in NULLS:
        return [text]
    if any(text in get_args(t) for t in types if get_origin(t) is Literal) or str in types:
        return text
    numbers = [t for t in types if t in (int, float) or (get_origin(t) is Literal and not _is_text(t))]
    if numbers:
        number = parse_number(text, unit_of(slot.name), whole=float not in numbers)
        if number is not None:
            return number
    return text


def _guess(text: str) -> Any:
    """By the core schema of YAML 1.2: null, true, false, whole numbers, floats, and else text."""
    if text in NULLS:
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    try:
        return float(text) if re.search(r"\d", text) and "_" not in text else text
    except ValueError:
        return text
