"""Sentences made of a repeated word or phrase ("buy now buy now buy now ...") are cut out of the text.

Repetition across sentences and lines is Gopher's business; this finds it within one sentence, which the document-level
fractions never see in an otherwise good page.
"""

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from raypt.curation import features as s
from raypt.curation.base import CUT_PREFIX
from raypt.curation.rewrite import Pieces, assemble
from raypt.curation.rules.base import RuleSettings, struct
from raypt.curation.view import Measured, View
from raypt.kernels import kernel


class RepeatedPhrases(RuleSettings):
    """Removal of sentences made of repeated phrases. All settings but `sentence_count_max` change the text itself."""

    stage: ClassVar[str] = "repeated_phrases"
    edits: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("sentence_count",)
    edit_settings: ClassVar[tuple[str, ...]] = ("phrase_tokens_max", "repeats_min", "covered_fraction_min")

    phrase_tokens_max: int = Field(8, ge=1, le=64)
    """Longest phrase, in tokens, whose repetition is looked for."""
    repeats_min: int = Field(4, ge=2)
    """Fewest times the phrase occurs in a row."""
    covered_fraction_min: float = Field(0.5, ge=0, le=1)
    """Smallest share of the sentence's tokens that the repetition covers."""
    sentence_count_max: int | None = None
    """Most sentences that may be cut before the document goes as a whole."""

    def measure(self, view: View, resources: Any = None) -> Measured:
        """How many sentences of every document go, and its text without them."""
        f = view.features
        most = len(f.token_hash) + len(f.line_words) + len(f.text) + 1
        spans, offsets = np.empty((most, 2), np.int64), np.empty(len(f.text) + 1, np.int64)
        cut = np.zeros(len(f.text), np.int64)
        pieces = _filter(
            f.text.data, f.text.offsets, f.token_offsets, f.token_hash, f.token_start, f.token_flags, f.line_offsets,
            f.line_bytes, f.line_tokens, self.phrase_tokens_max, self.repeats_min, self.covered_fraction_min,
            spans, offsets, cut,
        )  # fmt: skip
        edited = assemble(f.text, Pieces(spans[:pieces], np.zeros(pieces, np.uint8), offsets))
        removed = np.diff(f.text.offsets) - np.diff(edited.offsets)
        return Measured(struct({"sentence_count": cut, CUT_PREFIX + "sentence": removed}), edited)


@kernel
def _is_repetition(token_hash, token_flags, first, last, longest, repeats, covered):  # type: ignore[no-untyped-def]
    """Whether a phrase of at most `longest` tokens repeats in a row over enough of tokens [first, last)."""
    n = last - first
    if n < repeats:
        return False
    for period in range(1, min(longest, n // repeats) + 1):
        run = words = 0
        for t in range(first + period, last):
            if token_hash[t] == token_hash[t - period]:
                run += 1
                words += not token_flags[t] & s.SYMBOL_ONLY
                if words > 0 and run + period >= repeats * period and run + period >= covered * n:
                    return True
            else:
                run = words = 0
    return False


@kernel
def _filter(  # type: ignore[no-untyped-def]
    data, doc_ends, token_offsets, token_hash, token_start, token_flags, line_offsets, line_bytes, line_tokens, longest,
    repeats, covered, spans, offsets, cut,
):  # fmt: skip
    """Pieces that are kept, whose number it returns, and the number of sentences cut from each document."""
    n = len(line_offsets) - 1
    pieces = 0
    for d in range(n):
        offsets[d] = pieces
        kept_from = doc_ends[d]
        for i in range(line_offsets[d], line_offsets[d + 1]):
            first, end = line_tokens[i], line_tokens[i + 1]
            gone_from = -1
            cut_here = 0
            sentence = first
            ended = False
            for t in range(first, end + 1):  # token `end` closes the last sentence of the line
                if t < end:
                    f = token_flags[t]
                    clause = f & s.NO_STOPS and f & s.AFTER_SPACE and t > first and token_flags[t - 1] & s.NO_STOPS
                    starts = clause or (ended and not f & s.PUNCT_ONLY and not f & s.STOP)
                    if f & s.STOP:
                        ended = True
                    if not starts:
                        continue
                    ended = False
                if t > sentence and _is_repetition(token_hash, token_flags, sentence, t, longest, repeats, covered):
                    cut[d] += 1
                    cut_here += 1
                    if gone_from < 0:
                        gone_from = token_start[sentence]
                elif gone_from >= 0:
                    if kept_from < gone_from:
                        spans[pieces, 0], spans[pieces, 1] = kept_from, gone_from
                        pieces += 1
                    kept_from = token_start[sentence]
                    gone_from = -1
                sentence = t
            if gone_from >= 0:
                whole = first < end and gone_from == token_start[first]
                stop = line_bytes[i, 0] if whole else gone_from
                if kept_from < stop:
                    spans[pieces, 0], spans[pieces, 1] = kept_from, stop
                    pieces += 1
                if whole:  # the line's end goes with it
                    kept_from = line_bytes[i + 1, 0] if i + 1 < line_offsets[d + 1] else doc_ends[d + 1]
                else:
                    kept_from = line_bytes[i, 3]
        if kept_from < doc_ends[d + 1]:
            spans[pieces, 0], spans[pieces, 1] = kept_from, doc_ends[d + 1]
            pieces += 1
    offsets[n] = pieces
    return pieces
