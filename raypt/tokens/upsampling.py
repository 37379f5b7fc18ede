"""Buckets of a column's numbers, and how much oftener than by their size the groups of a mixture are drawn."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt.errors import UserError
from raypt.tokens.config import MixtureConfig, Upsampling

Edges = Mapping[str, Sequence[float]]
"""Column -> where its buckets meet, ascending."""


def bucket_names(edges: Sequence[float]) -> list[str]:
    """The names of the buckets, from the lowest on: `<0.2`, `0.2-0.8`, `>=0.8`."""
    inner = [f"{a:g}-{b:g}" for a, b in itertools.pairwise(edges)]
    return [f"<{edges[0]:g}", *inner, f">={edges[-1]:g}"]


def buckets_of(values: pa.Array, edges: Sequence[float], where: str) -> pa.Array:
    """string[n]: the bucket of each number, "" for null and NaN. UserError, naming `where`, for what is no number."""
    try:
        numbers = np.asarray(values.cast(pa.float64()).to_numpy(zero_copy_only=False))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise UserError(f"{where}: edges cut a column of numbers into buckets; this one is of {values.type}") from None
    at = np.searchsorted(np.asarray(edges, np.float64), numbers, "right")
    return pc.fill_null(pa.array(bucket_names(edges)).take(pa.array(at, mask=np.isnan(numbers))), "")


def factors(sizes: Mapping[str, int], config: MixtureConfig) -> dict[str, float]:
    """Group -> the product of its columns' factors. `sizes`: group -> bytes of text."""
    out = dict.fromkeys(sizes, 1.0)
    for column, rule in config.upsample.items():
        values = {group: _value(group, config.by, column) for group in sizes}
        by_value: dict[str, int] = {}
        for group, n in sizes.items():
            by_value[values[group]] = by_value.get(values[group], 0) + n
        found = _by_value(by_value, rule, f"tokens.mixture.upsample.{column}")
        for group in out:
            out[group] *= found[values[group]]
    return out


def _value(group: str, by: Sequence[str], column: str) -> str:
    parts = [group] if len(by) == 1 else group.split("/")
    if len(parts) != len(by):
        raise UserError(
            f"tokens.mixture.upsample.{column}: the values of the group {group!r} cannot be told apart, for one has a "
            f"'/' in it; name fewer columns in tokens.mixture.by than {', '.join(by)}"
        )
    return parts[by.index(column)]


def _by_value(sizes: Mapping[str, int], rule: Upsampling, where: str) -> dict[str, float]:
    if rule.weights is not None:
        known = {*sizes, *(bucket_names(rule.edges) if rule.edges else ())}
        unknown = sorted(set(rule.weights) - known - {""})
        if unknown:
            raise UserError(f"{where}.weights: no such value in the curated text: {unknown}; it has {sorted(known)}")
        found = {value: rule.weights.get(value, 1.0) for value in sizes}
        if rule.missing is not None and "" in found:
            found[""] = rule.missing
        return found
    if not rule.edges or (rule.steps is None and rule.power is None):
        return dict.fromkeys(sizes, 1.0)
    found, below = {}, 0
    total = max(sum(n for value, n in sizes.items() if value), 1)
    for i, name in enumerate(bucket_names(rule.edges)):
        n = sizes.get(name, 0)
        percentile = max((below + n / 2) / total, 0.5 / total)
        found[name] = rule.steps[i] if rule.steps is not None else math.pow(percentile, rule.power or 0.0)
        below += n
    present = {name: found[name] for name in sizes if name}
    lowest = min(present.values(), default=1.0)
    return present | ({"": lowest if rule.missing is None else rule.missing} if "" in sizes else {})
