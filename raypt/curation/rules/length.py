"""Bounds on the size of a document."""

from typing import Any, ClassVar

import numpy as np

from raypt.curation import features as s
from raypt.curation.rules.base import RuleSettings, ratio, struct
from raypt.curation.view import Measured, View


class Length(RuleSettings):
    """Length bounds; all off but the one against empty documents."""

    stage: ClassVar[str] = "length"
    metrics: ClassVar[tuple[str, ...]] = ("chars", "bytes", "tokens", "lines", "mean_line_chars")

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

    def measure(self, view: View, resources: Any = None) -> Measured:
        """The metrics of every document."""
        f = view.features
        chars, lines = f.counts[:, s.CHARS], np.diff(f.line_offsets)
        columns = (chars, np.diff(f.text.offsets), np.diff(f.token_offsets), lines, ratio(chars, lines))
        return Measured(struct(dict(zip(self.metrics, columns, strict=True))))
