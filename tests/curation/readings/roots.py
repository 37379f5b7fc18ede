"""ROOTS's reading of its filters for OSCAR (Laurençon et al. 2022): bigscience-workshop/data-preparation,
preprocessing/training/01b_oscar_cleaning_and_filtering/filtering.py, one document at a time."""

import math
import string
from collections import Counter
from itertools import pairwise

from raypt.curation.rules.special_characters import special_characters

SPECIAL = special_characters() | set(string.whitespace)
INCORRECT = ("http", "www", ".com", "href", "//")


def document(text: str, longest: int | None = None) -> str:
    """The text as it is measured; `longest`: words are cut, the longer ones and those with parts of addresses."""
    shown = (c for c in text if c in string.whitespace or not (ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0))
    plain = "".join(" " if c.isspace() or c == "\ufffc" else c for c in shown).strip()
    if longest is None:
        return plain
    return " ".join(word for word in plain.split(" ") if word and _stays(word, longest))


def _core(word: str) -> str:
    kept = [i for i, c in enumerate(word) if c not in SPECIAL]
    return word[kept[0] : kept[-1] + 1] if kept else ""


def _stays(word: str, longest: int) -> bool:
    core = _core(word)
    short = len(word) <= longest or (core != "" and len(core) <= longest)
    return short and not any(part in core for part in INCORRECT)


def words(plain: str, *, lower: bool = True) -> list[str]:
    found = (_core(word.lower() if lower else word) for word in plain.split(" "))
    return [word for word in found if word]


def repeated_characters(plain: str, n: int) -> float:
    counts = Counter(plain[i : i + n] for i in range(len(plain) - n + 1))
    if not counts:
        return 0.0
    often = sorted(counts.values(), reverse=True)
    repeated = sum(count > 1 for count in often)
    return sum(often[: min(int(math.sqrt(len(often))), repeated)]) / sum(often)


def repeated_words(plain: str, n: int) -> float:
    found = words(plain)
    counts = Counter(tuple(found[i : i + n]) for i in range(len(found) - n + 1))
    return sum(count for count in counts.values() if count > 1) / max(1, sum(counts.values()))


def special_share(plain: str) -> float:
    return sum(c in SPECIAL for c in plain) / max(1, len(plain))


def listed_share(plain: str, listed: set[str], pairs: bool = False) -> float:
    found = words(plain)
    two = [f"{a} {b}" for a, b in pairwise(found)] if pairs else []
    return min(1.0, sum(word in listed for word in found + two) / max(1, len(found)))
