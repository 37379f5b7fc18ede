"""Shares of character classes (as in ROOTS and data-juicer): digits, symbols, white space, capitals, letters."""

from typing import ClassVar

from raypt.curation import features as s
from raypt.curation.rules.base import RuleSettings, ratio, struct
from raypt.curation.view import Measured, View


class Characters(RuleSettings):
    """Character-class ratios, of all characters (code points) of a document."""

    stage: ClassVar[str] = "characters"
    metrics: ClassVar[tuple[str, ...]] = (
        "digit_fraction",
        "symbol_fraction",
        "space_fraction",
        "upper_fraction",
        "alpha_fraction",
        "unspaced_fraction",
    )

    digit_fraction_max: float | None = 0.3
    """Largest share of decimal digits of any script."""
    symbol_fraction_max: float | None = 0.4
    """Largest share of punctuation, symbols and control characters."""
    space_fraction_max: float | None = 0.5
    """Largest share of white space."""
    upper_fraction_max: float | None = 0.5
    """Largest share of capital letters."""
    alpha_fraction_min: float | None = 0.25
    """Smallest share of letters (data-juicer's alphanumeric filter: 0.25)."""
    unspaced_fraction_min: float | None = None
    """Smallest share of characters of scripts written without spaces: Han, Kana, Thai (ChineseWebText: 0.3 Han)."""


def measure(view: View, settings: Characters) -> Measured:
    """The metrics of every document."""
    counts = view.features.counts
    columns = (s.DIGITS, s.SYMBOLS, s.SPACES, s.UPPERS, s.ALPHAS, s.UNSPACEDS)
    shares = (ratio(counts[:, column], counts[:, s.CHARS]) for column in columns)
    return Measured(struct(dict(zip(Characters.metrics, shares, strict=True))))
