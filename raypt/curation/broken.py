"""Which texts ftfy may change, asked of Arrow's regular expressions at fifty times ftfy's own speed and more; the few
that it may change go through ftfy itself, so that the result is ftfy's for every text.
"""

import functools
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raypt.text.unicode import SPACE_RE2

_ENTITY = r"&#?[0-9A-Za-z]{1,24};"
_CONTROLS = r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x{9f}\x{206a}-\x{206f}\x{feff}\x{fff9}-\x{ffff}]"
_WORD = r"0-9A-Z_a-z\x{80}-\x{10ffff}"
"""A little more than the characters of words, as Python's expressions know them."""
_PLAIN_ASCII = r"[^\t\n -~]"
"""What formatting beyond the repair of encodings may change holds one of these: any character but printable ASCII."""


def may_change(text: pa.Array, formatting: bool) -> pa.Array:
    """bool[n]: texts that ftfy's fixes of encodings, entities and controls may change, or, with `formatting`, any of
    its fixes. The others come back from it as they are."""
    suspects = [_ENTITY, _PLAIN_ASCII] if formatting else [_ENTITY, _CONTROLS, _mojibake()]
    found = [pc.fill_null(pc.match_substring_regex(text, pattern), False) for pattern in suspects]
    return functools.reduce(pc.or_, found)


@functools.cache
def _mojibake() -> str:
    """ftfy's own sign of text that was decoded wrongly (it looks no further without it), in RE2's syntax; any character
    beyond ASCII where that is not understood."""
    from ftfy import badness

    try:
        from re import _parser  # type: ignore[attr-defined]

        pattern = badness.BADNESS_RE
        return _re2(_parser.parse(pattern.pattern, pattern.flags))
    except (ImportError, AttributeError, KeyError):
        return _PLAIN_ASCII


def _character(code: int) -> str:
    return rf"\x{{{code:x}}}"


def _one_of(items: Any) -> str:
    kinds: dict[str, Callable[[Any], str]] = {
        "NEGATE": lambda _: "^",
        "LITERAL": _character,
        "RANGE": lambda ends: f"{_character(ends[0])}-{_character(ends[1])}",
        "CATEGORY": lambda name: {"CATEGORY_SPACE": SPACE_RE2, "CATEGORY_WORD": _WORD}[str(name)],
    }
    return "[" + "".join(kinds[str(kind)](value) for kind, value in items) + "]"


def _re2(tree: Any) -> str:
    """A parsed Python expression as RE2 has it, lines beginning after each line end. KeyError: it has what this does
    not know."""
    kinds: dict[str, Callable[[Any], str]] = {
        "LITERAL": _character,
        "NOT_LITERAL": lambda code: f"[^{_character(code)}]",
        "IN": _one_of,
        "ANY": lambda _: r"[^\n]",
        "BRANCH": lambda value: "(?:" + "|".join(map(_re2, value[1])) + ")",
        "SUBPATTERN": lambda value: f"(?:{_re2(value[3])})",
        "MAX_REPEAT": lambda value: f"(?:{_re2(value[2])}){{{value[0]},{value[1]}}}",
        "AT": lambda where: {"AT_BEGINNING": "(?m:^)"}[str(where)],
    }
    return "".join(kinds[str(kind)](value) for kind, value in tree)
