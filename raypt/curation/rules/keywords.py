"""Keyword rules of one's own: phrases that a document may contain so many times, or must contain."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, field_validator

from raypt.curation import languages
from raypt.curation.phrases import count_matches, read_list
from raypt.curation.rules.base import Bound, RuleSettings, struct
from raypt.curation.view import Measured, View
from raypt.settings import Settings


class KeywordRule(Settings):
    """One rule: how often any of its phrases may occur."""

    phrases: tuple[str, ...] = ()
    """Phrases, matched without case."""
    file: str | None = None
    """File or URI with more phrases, one a line."""
    languages: tuple[str, ...] | None = None
    """Languages the rule applies to, by any code or English name; None: all."""
    whole_words: bool = True
    """Match only where no word is cut; in scripts written without spaces anywhere."""
    count_min: int | None = None
    """Fewest occurrences (an allow rule)."""
    count_max: int | None = None
    """Most occurrences (a deny rule)."""


class Keywords(RuleSettings):
    """Keyword rules by name; the name is the metric, and with `_min` or `_max` the reason."""

    stage: ClassVar[str] = "keywords"

    rules: dict[str, KeywordRule] = Field(default_factory=dict)
    """The rules, e.g. `{cookie_wall: {phrases: [accept all cookies], count_max: 0}}`."""

    @field_validator("rules")
    @classmethod
    def _names(cls, value: dict[str, KeywordRule]) -> dict[str, KeywordRule]:
        for name in value:
            if not name.replace("_", "").isalnum():
                raise ValueError(f"rules: {name!r} is no name; use letters, digits and _")
        return value

    def bounds(self) -> Iterator[Bound]:
        for name, rule in self.rules.items():
            yield Bound(f"{name}_min", name, True, rule.count_min)
            yield Bound(f"{name}_max", name, False, rule.count_max)

    def asks_language(self) -> str | None:
        """The first rule that applies to some languages only."""
        return next((f"rules.{name}" for name, rule in self.rules.items() if rule.languages is not None), None)

    def named_languages(self) -> Mapping[str, Iterable[str]]:
        """Those of rules for some languages."""
        return {f"rules.{name}.languages": rule.languages or () for name, rule in self.rules.items()}

    def named_files(self) -> Mapping[str, str]:
        """The rules' lists."""
        return {f"rules.{name}.file": rule.file for name, rule in self.rules.items() if rule.file is not None}

    def measure(self, view: View, resources: Any = None) -> Measured:
        """Occurrences by rule; null where a rule does not apply to the document's language."""
        labels = view.languages.to_pylist()
        text = view.text.to_arrow()
        columns = {}
        for name, rule in self.rules.items():
            counts = np.full(len(view), np.nan)
            named = rule.languages
            meant = {x for x in set(labels) if named is None or languages.match(x, named) is not None}
            rows = np.array([i for i, x in enumerate(labels) if x in meant], np.int64)
            if len(rows):
                listed = read_list(rule.file, f"curation.keywords.rules.{name}.file") if rule.file else ()
                counts[rows] = count_matches(text.take(rows), (*rule.phrases, *listed), whole_words=rule.whole_words)[
                    :, 0
                ]
            columns[name] = counts
        return Measured(struct(columns or {"none": np.zeros(len(view))}))
