"""What names a document's group: a column, a part of a column's text, or the range that a number in it lies in.

`source` is the column's value; `url~/\\d{4}/` what an RE2 expression finds in it first (of `(?P<name>...)` what that
group holds); `date~\\d{4}@1990,2000,2010` the range of that number: `1990-2000` or `2000-2010`, each without its end.
Where nothing is found, or the number is in no range, the group is the empty string.
"""

import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_EDGES = re.compile(r"(.*)@(-?\d+(?:,-?\d+)+)", re.DOTALL)


@dataclass(frozen=True)
class Naming:
    """One entry of `tokens.mixture.by`."""

    column: str
    pattern: str | None = None
    """RE2, with at most one group, which has a name; None = the whole value."""
    edges: tuple[int, ...] = ()
    """Ascending: so many ranges and one more."""

    def __str__(self) -> str:
        pattern = "" if self.pattern is None else f"~{self.pattern}"
        return f"{self.column}{pattern}" + ("@" + ",".join(map(str, self.edges)) if self.edges else "")

    @property
    def ranges(self) -> tuple[str, ...]:
        """Names of the groups that `edges` make."""
        return tuple(f"{low}-{high}" for low, high in itertools.pairwise(self.edges))

    def names(self, values: pa.Array) -> pa.Array:
        """string[n] of a column's texts."""
        if self.pattern is None:
            return values
        found = pc.fill_null(pc.struct_field(pc.extract_regex(values, _named(self.pattern)), 0), "")
        return self._ranged(found) if self.edges else found

    def _ranged(self, found: pa.Array) -> pa.Array:
        digits = pc.match_substring_regex(found, r"^-?\d{1,18}$")
        number = np.asarray(pc.if_else(digits, found, "0").cast(pa.int64()))
        at = np.searchsorted(self.edges, number, side="right") - 1
        inside = np.asarray(digits) & (at >= 0) & (at < len(self.edges) - 1)
        names = pa.array(["", *self.ranges], pa.string())
        return names.take(pa.array(np.where(inside, at + 1, 0)))


def _named(pattern: str) -> str:
    return pattern if "(?P<" in pattern else f"(?P<it>{pattern})"


@functools.lru_cache
def naming(entry: str) -> Naming:
    """Of an entry of `tokens.mixture.by`. Raises ValueError that says what is wrong."""
    column, tilde, pattern = entry.partition("~")
    if not tilde:
        return Naming(entry)
    ranged = _EDGES.fullmatch(pattern)
    edges: tuple[int, ...] = ()
    if ranged:
        pattern, edges = ranged[1], tuple(int(e) for e in ranged[2].split(","))
    if list(edges) != sorted(set(edges)):
        raise ValueError(f"{entry!r}: the edges must increase")
    try:
        compiled = re.compile(pattern)
        pc.extract_regex(pa.array([], pa.string()), _named(pattern))
    except (re.error, pa.ArrowInvalid) as e:
        raise ValueError(f"{entry!r}: no RE2 expression: {e}") from None
    if not column or not pattern or compiled.groups > 1:
        raise ValueError(f"{entry!r}: a column, `~`, and an expression with one group at most, named (?P<name>...)")
    return Naming(column, pattern, edges)


def columns(by: Sequence[str]) -> list[str]:
    """The columns that entries of `tokens.mixture.by` look at."""
    return [entry.partition("~")[0] for entry in by]
