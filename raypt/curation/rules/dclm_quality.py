"""Gopher's quality rules (Rae et al. 2021) as DCLM's own mappers read them (Li et al. 2024, arXiv:2406.11794).

A word is what stands between blanks, punctuation and all; the number of words counts those that begin with a letter or
digit; '#' and ellipses count together; each occurrence of a stop word counts, in any case; blank lines are no lines.
On English documents this and datatrove's reading (`gopher_quality`), which asks about tokens with punctuation marks
among them, differ most in the share of words with a letter.

Beyond English: a character of a script written without spaces is a word. Word lengths and stop words as there.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from raypt.curation import features as s
from raypt.curation.rules.base import RuleSettings, ratio, struct
from raypt.curation.rules.words import begins_with_alnum, spelled, starts_with
from raypt.curation.stopwords import StopWordTable, stop_words
from raypt.curation.view import Measured, View
from raypt.kernels import kernel
from raypt.text import unicode as u


class DclmQuality(RuleSettings):
    """Gopher quality in DCLM's reading; defaults from `dclm_baseline_refinedweb.yaml`."""

    stage: ClassVar[str] = "dclm_quality"
    metrics: ClassVar[tuple[str, ...]] = (
        "word_count",
        "mean_word_length",
        "symbol_to_word_ratio",
        "bullet_line_fraction",
        "ellipsis_line_fraction",
        "alpha_word_fraction",
        "stop_word_count",
    )

    word_count_min: int | None = 50
    """Fewest words that begin with a letter or digit."""
    word_count_max: int | None = 100_000
    """Most such words."""
    mean_word_length_min: float | None = 3.0
    """Shortest mean length of a word in characters, punctuation included; not applied to scripts without spaces."""
    mean_word_length_max: float | None = 10.0
    """Longest mean length of a word in characters; not applied to scripts without spaces."""
    symbol_to_word_ratio_max: float | None = 0.1
    """Most '#' and ellipses ('...', '. . .', '…') together per word."""
    bullet_line_fraction_max: float | None = 0.9
    """Largest share of lines that start with a bullet."""
    bullets: str = "●•*-"
    """Characters that are bullets. Changing them means tagging again."""
    ellipsis_line_fraction_max: float | None = 0.3
    """Largest share of lines that end with an ellipsis."""
    alpha_word_fraction_min: float | None = 0.8
    """Smallest share of words with at least one letter."""
    stop_word_count_min: int | None = 2
    """Fewest occurrences of stop words of the document's language, in any case."""
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
        return StopWordTable.build(stop_words(self.stop_words), any_case=True)

    def measure(self, view: View, resources: Any = None) -> Measured:
        """The metrics of every document."""
        f = view.features
        table: StopWordTable = self.load(None) if resources is None else resources
        of_doc = table.index(view.languages.to_pylist())
        m = np.zeros((len(view), 10), np.int64)
        _measure(
            f.text.data, f.text.offsets, f.token_offsets, f.token_hash, f.token_chars, f.token_start, f.token_flags,
            f.line_offsets, f.line_bytes, f.line_flags, *u.tables(), of_doc, table.starts, table.masks, table.hashes,
            table.bits, spelled(self.bullets), m,
        )  # fmt: skip
        counted, words, chars, alpha, stops, unspaced, lines, bullets, ellipsis_ends, spaced_dots = m.T
        symbols = f.counts[:, s.HASHES] + f.counts[:, s.ELLIPSES] + spaced_dots
        columns = {
            "word_count": counted,
            "mean_word_length": np.where(unspaced * 2 > words, np.nan, ratio(chars, words - unspaced)),
            "symbol_to_word_ratio": ratio(symbols, words),
            "bullet_line_fraction": ratio(bullets, lines),
            "ellipsis_line_fraction": ratio(ellipsis_ends, lines),
            "alpha_word_fraction": ratio(alpha, words),
            "stop_word_count": np.where(of_doc < 0, np.nan, stops),
        }
        return Measured(struct(columns))


@kernel
def _dots_apart(data, start, end):  # type: ignore[no-untyped-def]
    """Occurrences of ". . .", without overlaps."""
    n = 0
    i = start
    while i + 5 <= end:
        k = 0
        while k < 5 and data[i + k] == (0x20 if k & 1 else 0x2E):
            k += 1
        n += k == 5
        i += 5 if k == 5 else 1
    return n


@kernel
def _measure(  # type: ignore[no-untyped-def]
    data, offsets, token_offsets, token_hash, token_chars, token_start, token_flags, line_offsets, line_bytes,
    line_flags, pages, blocks, table_of_doc, starts, masks, hashes, bits, bullets, out,
):  # fmt: skip
    """Into out[D, 10]: words that begin with a letter or digit, words, characters of spaced ones, words with a letter,
    occurrences of stop words, unspaced ones; lines, those with a bullet, with an ellipsis at the end; ". . ."."""
    for d in range(len(offsets) - 1):
        counted = words = chars = alpha = stops = unspaced = 0
        table = table_of_doc[d]
        t, last = token_offsets[d], token_offsets[d + 1]
        while t < last:  # tokens [t, e) are a chunk between blanks
            e = t + 1
            while e < last and not token_flags[e] & s.AFTER_SPACE:
                e += 1
            length = 0
            letters = rest = any_unspaced = False
            for k in range(t, e):
                flags = token_flags[k]
                if flags & s.UNSPACED:
                    any_unspaced = True
                    words += 1
                    unspaced += 1
                    counted += 1
                    alpha += 1
                else:
                    length += token_chars[k]
                    letters = letters or flags & s.HAS_ALPHA != 0
                    rest = rest or not flags & s.SYMBOL_ONLY
                if table >= 0 and (e == t + 1 or flags & s.UNSPACED):
                    h = token_hash[k]
                    slot = starts[table] + np.int64(h & masks[table])
                    while bits[slot] != 0:
                        if hashes[slot] == h:
                            stops += 1
                            break
                        slot += 1
            if not any_unspaced or rest:  # what a chunk is beside its unspaced characters
                words += 1
                chars += length
                alpha += letters
                counted += letters if any_unspaced else begins_with_alnum(data, token_start[t], pages, blocks)
            t = e
        out[d, 0], out[d, 1], out[d, 2], out[d, 3], out[d, 4], out[d, 5] = counted, words, chars, alpha, stops, unspaced
        for i in range(line_offsets[d], line_offsets[d + 1]):
            a, b = line_bytes[i, 2], line_bytes[i, 3]
            if a == b:
                continue
            out[d, 6] += 1
            out[d, 7] += starts_with(data, a, b, bullets)
            out[d, 8] += line_flags[i] & s.ELLIPSIS_END != 0 or (b - a >= 5 and _dots_apart(data, b - 5, b) == 1)
        out[d, 9] = _dots_apart(data, offsets[d], offsets[d + 1])
