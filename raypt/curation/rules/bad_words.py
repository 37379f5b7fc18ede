"""Bad words by language, from lists given as files (C4 uses LDNOOBW's), matched as whole words and without case."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from raypt.curation import languages as tongues
from raypt.curation.phrases import count_matches, read_list
from raypt.curation.rules.base import RuleSettings, ratio, struct
from raypt.curation.view import Measured, View


class BadWords(RuleSettings):
    """Bad words (C4; Raffel et al. 2020). In scripts written without spaces a word matches anywhere."""

    stage: ClassVar[str] = "bad_words"
    metrics: ClassVar[tuple[str, ...]] = ("match_count", "distinct_per_line")

    lists: dict[str, str] = Field(default_factory=dict)
    """Files or URIs by language (any code), one word or phrase a line, e.g. `{en: lists/en.txt}`. The rule does not
    apply to documents in a language without a list."""
    allow: dict[str, tuple[str, ...]] = Field(default_factory=lambda: {"ja": ("sm", "グロ", "女の子"), "zh": ("性",)})
    """Words of the lists that do not count, by language (default: mC4's, common within other words)."""
    match_count_max: int | None = 0
    """Most occurrences (C4: none)."""
    distinct_per_line_max: float | None = None
    """Most different bad words per line (ChineseWebText: 0.5)."""

    def asks_language(self) -> str | None:
        """The lists, if there are any and they are bounded."""
        bounded = self.match_count_max is not None or self.distinct_per_line_max is not None
        return "lists" if self.lists and bounded else None

    def named_languages(self) -> Mapping[str, Iterable[str]]:
        """Those of the lists, and of words that do not count."""
        usual = type(self)().allow
        return {"lists": self.lists, "allow": [name for name in self.allow if name not in usual]}

    def named_files(self) -> Mapping[str, str]:
        """The lists."""
        return {f"lists.{language}": uri for language, uri in self.lists.items()}

    def measure(self, view: View, resources: Any = None) -> Measured:
        """The metrics of every document; null where the language has no list."""
        matches, distinct = np.full(len(view), np.nan), np.full(len(view), np.nan)
        languages = np.array(view.languages.to_pylist(), object)
        text = view.text.to_arrow()
        listed = {label: tongues.match(label, self.lists) for label in set(languages.tolist())}
        of_doc = np.array([listed[label] for label in languages], object)
        for language, uri in self.lists.items():
            rows = np.flatnonzero(of_doc == language)
            if len(rows) == 0:
                continue
            allowed = {w.lower() for key, ws in self.allow.items() if tongues.covers(key, language) for w in ws}
            words = [w for w in read_list(uri, f"curation.bad_words.lists.{language}") if w.lower() not in allowed]
            matches[rows], distinct[rows] = count_matches(text.take(rows), words, whole_words=True).T
        lines = np.diff(view.features.line_offsets)
        per_line = np.where(np.isnan(distinct), np.nan, ratio(np.nan_to_num(distinct), lines))
        return Measured(struct({"match_count": matches, "distinct_per_line": per_line}))
