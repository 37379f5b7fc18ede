"""FineWeb's custom rules (Penedo et al. 2024, arXiv:2406.17557, section 3.5), as datatrove 0.10 reads them.

In the recipe they judge what C4 left of the text: put the stage after `c4`. A line is ended by any script's
sentence-final mark, with a closing quotation mark after it or not; lines that end with a letter of a script without
such marks (Thai, Lao) count as ended.
"""

from typing import Any, ClassVar

import numpy as np

from raypt.curation import features as s
from raypt.curation.rules.base import RuleSettings, ratio, struct
from raypt.curation.view import Measured, View
from raypt.kernels import kernel
from raypt.text.hash_table import find_slot, hash_table, most_in_a_document, table_bits


class FineWeb(RuleSettings):
    """FineWeb custom (Penedo et al. 2024)."""

    stage: ClassVar[str] = "fineweb"
    segmented: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = (
        "ended_line_fraction",
        "short_line_fraction",
        "duplicate_line_char_fraction",
        "newline_to_word_ratio",
    )

    ended_line_fraction_min: float | None = 0.12
    """Smallest share of lines (not blank) that end with a sentence-final mark (FineWeb)."""
    quote_after_stop: bool = True
    """A quotation mark may stand after the sentence-final mark, as in dialogue (datatrove and preset `fineweb`: no).
    Changing it means tagging again."""
    short_line_chars: int = 30
    """Lines of at most this many characters are short (FineWeb); a character of a script without spaces counts as two,
    as it is as wide. Changing it means tagging again."""
    short_line_fraction_max: float | None = 0.67
    """Largest share of short lines (FineWeb)."""
    duplicate_line_char_fraction_max: float | None = 0.01
    """Largest share of characters in lines that repeat an earlier one (datatrove: 0.01; the paper's text: 0.1)."""
    newline_to_word_ratio_max: float | None = 0.3
    """Most line breaks per token: more is a list (datatrove's `list_ratio`)."""

    def measure(self, view: View, resources: Any = None) -> Measured:
        """The metrics of every document."""
        f = view.features
        m = np.zeros((len(view), 4), np.int64)
        keys, stamps = hash_table(most_in_a_document(f.line_offsets))
        _measure(
            f.line_offsets, f.line_hash, f.line_chars, f.line_words, f.line_flags, f.line_tokens, f.token_flags,
            self.quote_after_stop, self.short_line_chars, keys, stamps, m,
        )  # fmt: skip
        lines, ended, short, duplicate = m.T
        breaks = f.counts[:, s.BREAKS]
        return Measured(
            struct(
                {
                    "ended_line_fraction": ratio(ended, lines),
                    "short_line_fraction": ratio(short, lines),
                    "duplicate_line_char_fraction": ratio(duplicate, f.counts[:, s.CHARS] - breaks),
                    "newline_to_word_ratio": ratio(breaks, np.diff(view.words.token_offsets)),
                }
            )
        )


@kernel
def _measure(  # type: ignore[no-untyped-def]
    line_offsets, line_hash, line_chars, line_words, line_flags, line_tokens, token_flags, quoted, short, keys, stamps,
    out,
):  # fmt: skip
    """Into out[D, 4]: lines that are not blank, ended ones, short ones, characters of duplicate ones."""
    for d in range(len(line_offsets) - 1):
        stamp = d + 1
        bits = table_bits(line_offsets[d + 1] - line_offsets[d])
        for i in range(line_offsets[d], line_offsets[d + 1]):
            if line_words[i] == 0:
                continue
            out[d, 0] += 1
            stopped = line_flags[i] & s.STOP_END != 0 and (quoted or line_flags[i] & s.QUOTE_END == 0)
            out[d, 1] += stopped or line_flags[i] & s.NO_STOPS_END != 0
            width = line_chars[i]
            t = line_tokens[i]
            while width <= short and t < line_tokens[i + 1]:
                width += token_flags[t] & s.UNSPACED != 0
                t += 1
            out[d, 2] += width <= short
            slot = find_slot(line_hash[i], bits, stamp, keys, stamps)
            if stamps[slot] == stamp:
                out[d, 3] += line_chars[i]
            else:
                stamps[slot], keys[slot] = stamp, line_hash[i]
