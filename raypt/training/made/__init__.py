"""Questions that need no download: minimal pairs by a generator, cloze facts by a list.

`builtin:pairs/en` and `builtin:pairs/zh` are minimal pairs of agreement, order and negation; `builtin:facts/en` and
`builtin:facts/zh` facts to be completed, with three wrong answers of the same kind. The same seed gives the same ones.
"""

import json
from collections.abc import Iterator
from typing import Any

from raypt.errors import UserError

SCHEME = "builtin:"
COUNT = 600
"""Pairs of a `builtin:pairs` task."""


def names() -> tuple[str, ...]:
    """What follows `builtin:`."""
    return ("pairs/en", "pairs/zh", "facts/en", "facts/zh")


def rows(name: str, count: int = COUNT, seed: int = 0) -> list[dict[str, Any]]:
    """`good`, `bad`, `phenomenon`, or `prompt`, `choices`, `answer`, `phenomenon`.

    Raises:
        UserError: there is none of that name.
    """
    from raypt.training.made import chinese, english, facts

    if name == "pairs/en":
        return english.pairs(count, seed)
    if name == "pairs/zh":
        return chinese.pairs(count, seed)
    if name in ("facts/en", "facts/zh"):
        return facts.questions(name.removeprefix("facts/"), seed)
    raise UserError(f"{SCHEME}{name}: there are {', '.join(SCHEME + n for n in names())}")


def lines(name: str, count: int = COUNT, seed: int = 0) -> Iterator[str]:
    """The same as JSON Lines."""
    for row in rows(name, count, seed):
        yield json.dumps(row, ensure_ascii=False) + "\n"
