"""Bounds on the size of a document."""

import functools
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt.curation import features as s
from raypt.curation.rules.base import RuleSettings, ratio, struct
from raypt.curation.view import Measured, View
from raypt.text.unicode import SPACE_RE2

_PUNCTUATION = r"[!-/:-@\[-`{-~]"
"""Python's `string.punctuation`."""


class Length(RuleSettings):
    """Length bounds; all off but the one against empty documents."""

    stage: ClassVar[str] = "length"
    metrics: ClassVar[tuple[str, ...]] = ("chars", "bytes", "tokens", "lines", "mean_line_chars", "plain_chars")

    chars_min: int | None = 1
    """Fewest characters (code points)."""
    chars_max: int | None = None
    """Most characters (C4 in DCLM's reading: 190,000)."""
    bytes_min: int | None = None
    """Fewest UTF-8 bytes."""
    bytes_max: int | None = None
    """Most UTF-8 bytes."""
    tokens_min: int | None = None
    """Fewest tokens: words and punctuation marks; in scripts without spaces each character is one."""
    tokens_max: int | None = None
    """Most tokens."""
    lines_min: int | None = None
    """Fewest lines."""
    lines_max: int | None = None
    """Most lines."""
    mean_line_chars_min: float | None = None
    """Smallest mean length of a line in characters (ChineseWebText: 10)."""
    mean_line_chars_max: float | None = None
    """Largest mean length of a line in characters."""

    plain_chars_min: int | None = None
    """Fewest characters without ASCII punctuation, with a run of white space as one (SlimPajama: 200). They are counted
    only where this is set."""

    def decides(self) -> frozenset[str]:
        """The thresholds; one that has something measured besides is none."""
        return super().decides() - (frozenset() if self.plain_chars_min is None else {"plain_chars_min"})

    def measure(self, view: View, resources: Any = None) -> Measured:
        """The metrics of every document."""
        f = view.features
        chars, lines = f.counts[:, s.CHARS], np.diff(f.line_offsets)
        columns = [chars, np.diff(f.text.offsets), np.diff(f.token_offsets), lines, ratio(chars, lines)]
        if self.plain_chars_min is not None:
            columns.append(_plain_chars(view.text.to_arrow()))
        return Measured(struct(dict(zip(self.metrics, columns, strict=False))))


def _plain_chars(text: pa.Array) -> np.ndarray:
    steps = ((_PUNCTUATION, ""), (f"[{SPACE_RE2}]+", " "), ("^ | $", ""))
    plain = functools.reduce(lambda t, step: pc.replace_substring_regex(t, *step), steps, text)
    lengths: np.ndarray = pc.utf8_length(plain).cast(pa.int64()).to_numpy()
    return lengths
