"""One name for a language, whoever names it: ISO 639-3 and the scripts it is written in.

lid.176 says `zh`, GlotLID `cmn_Hani`, NLLB's models `zho_Hans`, a data set's own column `zh-CN` or `Chinese`. Lists and
thresholds by language are found by what these mean (`match`), not by how they are spelled, so that another model does
not switch them off.

`assets/languages.txt` has a line for each language with a name, a two-letter code or a place in lid.176: its code, the
scripts it is usually written in, and its other codes and names. A macrolanguage's code stands for its standard language
(`zh`, `zho`: cmn; `ar`: arb; `no`: nob), as in GlotLID. Other codes of three letters stand for themselves.
"""

import difflib
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_TABLE = Path(__file__).parent / "assets" / "languages.txt"
_SCRIPTS = {"Hani": ("Hans", "Hant"), "Hanb": ("Hant",), "Kore": ("Hang",), "Hrkt": ("Jpan",)}
"""Scripts that stand for others: Hani says no more than that it is one of the two."""
_REGIONS = {"cmn": {"cn": "Hans", "sg": "Hans", "tw": "Hant", "hk": "Hant", "mo": "Hant"}}
"""Regions that tell the script."""
_UNSCRIPTED = {"als": "gsw"}
"""What a code without a script means where Wikipedia, and lid.176 after it, uses it otherwise than ISO 639-3."""
_CODE = re.compile(r"[a-z]{3}\Z")
_SCRIPT = re.compile(r"[a-z]{4}\Z")
_PREFIX = "__label__"
V = TypeVar("V")


@dataclass(frozen=True)
class Language:
    """A language in any of `scripts` (ISO 15924; empty: not known which)."""

    code: str
    """ISO 639-3, of a single language."""
    scripts: frozenset[str] = frozenset()
    region: str = ""
    """What else a tag says (`de-CH`: "ch"), where it is not only another word for a script."""

    def __str__(self) -> str:
        """As GlotLID writes it: `eng_Latn`, `cmn_Hani`."""
        script = "Hani" if self.scripts == {"Hans", "Hant"} else "_".join(sorted(self.scripts))
        return "_".join(filter(None, (self.code, script, self.region)))

    def covers(self, other: "Language") -> bool:
        """Whether everything in `other` is in this language and one of its scripts."""
        if self.code != other.code or self.region not in ("", other.region):
            return False
        return not self.scripts or (bool(other.scripts) and other.scripts <= self.scripts)


@functools.cache
def _table() -> tuple[dict[str, frozenset[str]], dict[str, str]]:
    """`(usual scripts by code, code by alias)`."""
    scripts: dict[str, frozenset[str]] = {}
    aliases: dict[str, str] = {}
    for line in _TABLE.read_text(encoding="utf-8").splitlines():
        code, written, names = line.split("\t")
        scripts[code] = frozenset(written.split())
        aliases |= {name: code for name in names.split(",") if name}
    return scripts, aliases


@functools.lru_cache(4096)
def read(name: str) -> Language | None:
    """What a code, a label or an English name means; None if that is not known.

    Without a script it is the language in its usual scripts.
    """
    scripts, aliases = _table()
    plain = name.strip().removeprefix(_PREFIX).lower().replace("_", "-")
    if plain in aliases:
        return Language(aliases[plain], scripts[aliases[plain]])
    head, *rest = plain.split("-")
    if not rest and " " in plain:  # "Simplified Chinese", "English (US)"
        words = re.sub(r"\s*\(.*\)", "", plain)
        for adjective, form in (("simplified ", "Hans"), ("traditional ", "Hant")):
            if words.startswith(adjective):
                found = read(words.removeprefix(adjective))
                return found and Language(found.code, frozenset((form,)))
        return read(words) if words != plain else None
    code = aliases.get(head, head)
    script = next((part.capitalize() for part in rest if _SCRIPT.match(part)), None)
    region = "-".join(part for part in rest if not _SCRIPT.match(part))
    if script is None:
        code = _UNSCRIPTED.get(head, code)
        script = _REGIONS.get(code, {}).get(region)
        region = "" if script else region
    if not _CODE.match(code) or any(not re.match(r"[a-z0-9]{1,8}\Z", part) for part in rest):
        return None
    if script is not None:
        return Language(code, frozenset(_SCRIPTS.get(script, (script,))), region)
    return Language(code, scripts.get(code, frozenset()), region)


def covers(key: str, label: str) -> bool:
    """Whether what a configuration calls `key` includes what a model or a data set calls `label`."""
    if key == label:
        return True
    wanted, found = read(key), read(label)
    return wanted is not None and found is not None and wanted.covers(found)


def match(label: str | None, keys: Iterable[str]) -> str | None:
    """The key that includes `label`: the one spelled like it, else the one of the fewest scripts; None if none does."""
    return None if label is None else _match(label, tuple(keys))


@functools.lru_cache(65_536)
def _match(label: str, keys: tuple[str, ...]) -> str | None:
    if label in keys:
        return label
    there = [key for key in keys if covers(key, label)]

    def breadth(key: str) -> int:
        found = read(key)
        return len(found.scripts) or 99 if found else 99

    return min(there, key=breadth, default=None)


def same(name: str, keys: Iterable[str]) -> str | None:
    """The key that means exactly what `name` means."""
    keys = tuple(keys)
    if name in keys:
        return name
    found = read(name)
    return next((key for key in keys if found is not None and read(key) == found), None)


def over(base: Mapping[str, V], given: Mapping[str, V]) -> dict[str, V]:
    """`base` with the values of `given`, whichever code either uses: a key of `base` that one of `given` includes is
    replaced."""
    left = {key: value for key, value in base.items() if not any(covers(name, key) for name in given)}
    return {**left, **given}


def twice(names: Iterable[str]) -> tuple[str, str] | None:
    """Two of the names that mean the same language."""
    seen: dict[Language | str, str] = {}
    for name in names:
        meaning = read(name) or name
        if meaning in seen and seen[meaning] != name:
            return seen[meaning], name
        seen[meaning] = name
    return None


def nearest(name: str, labels: Iterable[str]) -> str | None:
    """The label that a name unknown to a model was most likely meant to be."""
    labels = sorted(labels)
    found = read(name)
    if found is not None:
        close = [label for label in labels if (of := read(label)) is not None and of.code == found.code]
        if close:
            return close[0]
    plain = name.lower()
    spelled = {label: label for label in labels}
    _, aliases = _table()
    for label in labels:
        meaning = read(label)
        if meaning is not None:
            spelled |= {alias: label for alias, code in aliases.items() if code == meaning.code and len(alias) > 3}
    near = difflib.get_close_matches(plain, spelled, 1, 0.6)
    return spelled[near[0]] if near else None
