"""Shares of character classes (as in ROOTS and data-juicer): digits, symbols, white space, capitals, letters; and the
share of Traditional characters (ChineseWebText; Chen et al. 2023, arXiv:2311.01149).

EvalWeb drops a document that zhconv would change. Here a Traditional character is a Han character in frequent use in
Taiwan (level 1 of Big5, A440 to C67E) that GB 2312, the character set of Simplified Chinese, does not have.
"""

import functools
from typing import Any, ClassVar

import numpy as np

from raypt.curation import features as s
from raypt.curation.phrases import count_matches
from raypt.curation.rules.base import RuleSettings, ratio, struct
from raypt.curation.view import Measured, View
from raypt.kernels import kernel

_FIRST, _LAST = 0x4E00, 0x9FFF


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
        "traditional_fraction",
        "corner_quote_fraction",
        "taiwan_word_count",
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
    traditional_fraction_max: float | None = None
    """Largest share of Traditional Chinese characters (ChineseWebText: none)."""
    corner_quote_fraction_max: float | None = None
    """Largest share of the quotation marks 「」『』 of Traditional and Japanese text (ChineseWebText: none, as
    zhconv changes them)."""
    taiwan_words: tuple[str, ...] = ()
    """Words of Taiwan written in Simplified characters, which tell a converted text. Changing them means tagging
    again."""
    taiwan_word_count_max: int | None = None
    """Most occurrences of such words (ChineseWebText: none, as far as they are known here)."""

    def measure(self, view: View, resources: Any = None) -> Measured:
        """The metrics of every document."""
        counts = view.features.counts
        columns = (s.DIGITS, s.SYMBOLS, s.SPACES, s.UPPERS, s.ALPHAS, s.UNSPACEDS)
        shares = (ratio(counts[:, column], counts[:, s.CHARS]) for column in columns)
        found = np.zeros((len(view), 2), np.int64)
        _count_traditional(view.text.data, view.text.offsets, traditional(), found)
        words = np.zeros(len(view), np.int64)
        if self.taiwan_words:
            words = count_matches(view.text.to_arrow(), self.taiwan_words, whole_words=False)[:, 0]
        columns_of = (*shares, *(ratio(column, counts[:, s.CHARS]) for column in found.T), words)
        return Measured(struct(dict(zip(self.metrics, columns_of, strict=True))))


@functools.cache
def traditional() -> np.ndarray:
    """bool[0x5200]: whether the code point 0x4E00 + i is a Traditional character."""
    codes = (bytes((a, b)) for a in range(0xA4, 0xC7) for b in (*range(0x40, 0x7F), *range(0xA1, 0xFF)))
    frequent = "".join(code.decode("big5", "ignore") for code in codes if code <= b"\xc6\x7e")
    table = np.zeros(_LAST + 1 - _FIRST, bool)
    for c in frequent:
        if _FIRST <= ord(c) <= _LAST and not c.encode("gb2312", "ignore"):
            table[ord(c) - _FIRST] = True
    return table


@kernel
def _count_traditional(data, offsets, table, out):  # type: ignore[no-untyped-def]
    """Into out[D, 2]: Traditional characters, corner quotation marks; all of them take three bytes."""
    for d in range(len(offsets) - 1):
        for i in range(offsets[d], offsets[d + 1] - 2):
            if 0xE4 <= data[i] <= 0xE9:
                c = np.int64(data[i] & 0x0F) << 12 | np.int64(data[i + 1] & 0x3F) << 6 | np.int64(data[i + 2] & 0x3F)
                if c >= _FIRST:
                    out[d, 0] += table[c - _FIRST]
            elif data[i] == 0xE3 and data[i + 1] == 0x80 and 0x8C <= data[i + 2] <= 0x8F:
                out[d, 1] += 1
