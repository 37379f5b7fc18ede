"""Gopher's quality rules (Rae et al. 2021, arXiv:2112.11446, appendix A1), as datatrove 0.10 reads them.

A word is a token with at least one character that is neither punctuation nor symbol; ratios "to words" count all
tokens, as datatrove does. Two rules depend on the language: the mean word length is that of words in scripts with
spaces, and does not apply to text that is mostly in others; the stop words are those of the document's language (none
known: the rule does not apply).
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from raypt.curation import features as s
from raypt.curation.rules.base import RuleSettings, ratio, struct
from raypt.curation.rules.words import spelled, starts_with
from raypt.curation.stopwords import StopWordTable, stop_words
from raypt.curation.view import Measured, View
from raypt.kernels import kernel


class GopherQuality(RuleSettings):
    """Gopher quality (Rae et al. 2021); defaults as in datatrove and FineWeb."""

    stage: ClassVar[str] = "gopher_quality"
    segmented: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = (
        "word_count",
        "mean_word_length",
        "hash_to_word_ratio",
        "ellipsis_to_word_ratio",
        "bullet_line_fraction",
        "ellipsis_line_fraction",
        "alpha_word_fraction",
        "stop_word_count",
    )

    word_count_min: int | None = 50
    """Fewest words of a document (Gopher). In scripts without spaces a character is a word."""
    word_count_max: int | None = 100_000
    """Most words of a document (Gopher)."""
    mean_word_length_min: float | None = 3.0
    """Shortest mean length of a word in characters (Gopher); not applied to scripts written without spaces."""
    mean_word_length_max: float | None = 10.0
    """Longest mean length of a word in characters (Gopher); not applied to scripts written without spaces."""
    hash_to_word_ratio_max: float | None = 0.1
    """Most '#' characters per token (Gopher)."""
    ellipsis_to_word_ratio_max: float | None = 0.1
    """Most ellipses ('...' or '…') per token (Gopher)."""
    bullet_line_fraction_max: float | None = 0.9
    """Largest share of lines that start with a bullet (Gopher)."""
    bullets: str = "•-"
    """Characters that are bullets (datatrove: • and -). Changing them means tagging again."""
    ellipsis_line_fraction_max: float | None = 0.3
    """Largest share of lines that end with an ellipsis (Gopher)."""
    alpha_word_fraction_min: float | None = 0.8
    """Smallest share of tokens with at least one letter (Gopher: "80 % of words")."""
    stop_word_count_min: int | None = 2
    """Fewest distinct stop words of the document's language (Gopher: two of the, be, to, of, and, that, have, with)."""
    stop_words: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Stop words by language code, at most 64 each; these replace the built-in list of that language, `[]` switches the
    rule off for it."""

    def asks_language(self) -> str | None:
        """The stop words."""
        return None if self.stop_word_count_min is None else "stop_word_count_min"

    def named_languages(self) -> Mapping[str, Iterable[str]]:
        """Those with stop words of their own."""
        return {"stop_words": self.stop_words}

    def load(self, artefact: str | None) -> StopWordTable:
        """The stop words, hashed."""
        return StopWordTable.build(stop_words(self.stop_words))

    def measure(self, view: View, resources: Any = None) -> Measured:
        """The metrics of every document."""
        features = view.words
        table: StopWordTable = self.load(None) if resources is None else resources
        of_doc = table.index(view.languages.to_pylist())
        m, marked = np.zeros((len(view), 5), np.int64), np.zeros((len(view), 2), np.int64)
        _measure(
            features.token_offsets, features.token_hash, features.token_chars, features.token_flags,
            of_doc, table.starts, table.masks, table.hashes, table.bits, m,
        )  # fmt: skip
        bullets = spelled(self.bullets)
        _count_lines(
            features.text.data, features.line_offsets, features.line_bytes, features.line_flags, bullets, marked
        )
        words, chars, alpha, stops, unspaced = m.T
        tokens = np.diff(features.token_offsets)
        lines = np.diff(features.line_offsets)
        columns = {
            "word_count": words,
            "mean_word_length": np.where(unspaced * 2 > words, np.nan, ratio(chars, words - unspaced)),
            "hash_to_word_ratio": ratio(features.counts[:, s.HASHES], tokens),
            "ellipsis_to_word_ratio": ratio(features.counts[:, s.ELLIPSES], tokens),
            "bullet_line_fraction": ratio(marked[:, 0], lines),
            "ellipsis_line_fraction": ratio(marked[:, 1], lines),
            "alpha_word_fraction": ratio(alpha, tokens),
            "stop_word_count": np.where(of_doc < 0, np.nan, stops),
        }
        return Measured(struct(columns))


@kernel
def _measure(token_offsets, token_hash, token_chars, token_flags, table_of_doc, starts, masks, hashes, bits, out):  # type: ignore[no-untyped-def]
    """Into out[D, 5]: words, characters of spaced ones, tokens with a letter, distinct stop words, unspaced ones."""
    for d in range(len(token_offsets) - 1):
        words = chars = alpha = unspaced = 0
        seen = np.uint64(0)
        table = table_of_doc[d]
        for t in range(token_offsets[d], token_offsets[d + 1]):
            flags = token_flags[t]
            if not flags & s.SYMBOL_ONLY:
                words += 1
                if not flags & s.UNSPACED:
                    chars += token_chars[t]
            alpha += flags & s.HAS_ALPHA
            unspaced += flags >> 4 & 1
            if table >= 0:
                h = token_hash[t]
                slot = starts[table] + np.int64(h & masks[table])
                while bits[slot] != 0:
                    if hashes[slot] == h:
                        seen |= bits[slot]
                        break
                    slot += 1
        distinct = 0
        while seen:
            seen &= seen - np.uint64(1)
            distinct += 1
        out[d, 0], out[d, 1], out[d, 2], out[d, 3], out[d, 4] = words, chars, alpha, distinct, unspaced


@kernel
def _count_lines(data, line_offsets, line_bytes, line_flags, bullets, out):  # type: ignore[no-untyped-def]
    """Into out[D, 2]: lines that start with a bullet, lines that end with an ellipsis."""
    for d in range(len(line_offsets) - 1):
        for i in range(line_offsets[d], line_offsets[d + 1]):
            out[d, 0] += starts_with(data, line_bytes[i, 2], line_bytes[i, 3], bullets)
            out[d, 1] += line_flags[i] & s.ELLIPSIS_END != 0
