"""Shares of a mixture that a user's own function gives: `tokens.mixture.weights: package.module:function`.

It takes the groups with the UTF-8 bytes of their text, a dict in alphabetical order, and returns a mapping from group
to relative share; a group that is left out, or has 0, is not trained on. The shares, not the code, are part of the
stream's identity: they alone decide which samples come when, so a run goes on after an edit that leaves them as they
are.
"""

import math
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from raypt import plugins
from raypt.errors import UserError

KEY = "tokens.mixture.weights"

Shares = Callable[[dict[str, int]], Mapping[str, float]]


def load_shares(name: str) -> Shares:
    """The function that `package.module:function` stands for. UserError if there is none."""
    found = plugins.load(name, KEY)
    if not callable(found):
        raise UserError(f"{KEY}={name} is a {type(found).__name__}, not a function of the groups' sizes")
    function: Shares = found
    return function


def own_shares(name: str, sizes: Mapping[str, int]) -> dict[str, float]:
    """What the function gives for groups of these sizes, by name, checked.

    Raises:
        UserError: it fails, returns anything else than shares of these groups, or not the same a second time.
    """
    function = load_shares(name)
    found, again = (_called(function, name, dict(sorted(sizes.items()))) for _ in range(2))
    if found != again:
        raise UserError(
            f"{KEY}={name} gives other shares when it is called again ({found}, then {again}): a run could not go on "
            "where it was; draw random numbers from a fixed seed"
        )
    return found


def _called(function: Shares, name: str, sizes: dict[str, int]) -> dict[str, float]:
    groups = list(sizes)
    try:
        found: Any = function(sizes)
    except Exception as e:
        last = traceback.extract_tb(e.__traceback__)[-1]
        raise UserError(f"{KEY}={name} failed at {last.filename}:{last.lineno}: {type(e).__name__}: {e}") from e
    if not isinstance(found, Mapping):
        raise UserError(f"{KEY}={name} must return a mapping from group to share, not a {type(found).__name__}")
    unknown = [group for group in found if group not in groups]
    if unknown:
        raise UserError(f"{KEY}={name} gives a share to {unknown[0]!r}, which is none of the groups {groups}")
    out: dict[str, float] = {}
    for group in groups:
        try:
            share = float(found.get(group, 0.0))
        except (TypeError, ValueError):
            share = math.nan
        if not 0 <= share < math.inf:
            raise UserError(f"{KEY}={name} gives {group!r} the share {found[group]!r}; it must be a number >= 0")
        out[group] = share
    if not any(out.values()):
        raise UserError(f"{KEY}={name} gives no group of {groups} a share above 0")
    return out
