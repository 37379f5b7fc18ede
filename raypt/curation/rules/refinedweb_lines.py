"""RefinedWeb's line-wise corrections (Penedo et al. 2023, arXiv:2306.01116, appendix G.2), as DCLM reads them.

Navigation, counters and headings in capitals go line by line; a document that loses too many words to this is not worth
mending and goes as a whole. Blank lines and the indentation of lines that stay are kept. A line is short by what stands
between blanks; what it costs counts the words that begin with a letter or digit.
"""

from typing import Any, ClassVar

import numpy as np

from raypt.curation.base import CUT_PREFIX
from raypt.curation.phrases import PhraseTable
from raypt.curation.rewrite import Pieces, assemble
from raypt.curation.rules.base import RuleSettings, ratio, struct
from raypt.curation.rules.words import begins_with_alnum, count_spoken
from raypt.curation.view import Measured, View
from raypt.kernels import kernel
from raypt.text import unicode as u
from raypt.text.utf8 import decode

# Why something goes; "phrase" cuts a part of a line.
CUTS = ("upper_case", "numeric", "counter", "short", "phrase", "white_space")
_UPPER, _NUMERIC, _COUNTER, _SHORT, _PHRASE, _SPACE = range(len(CUTS))
_NEWLINE = 0x0A


class RefinedWebLines(RuleSettings):
    """RefinedWeb line-wise corrections. All settings but `cut_word_fraction_max` change the text itself: changing them
    means tagging again."""

    stage: ClassVar[str] = "refinedweb_lines"
    edits: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("cut_word_fraction",)
    edit_settings: ClassVar[tuple[str, ...]] = (
        "line_upper_fraction_max",
        "line_word_count_min",
        "phrase_line_words_max",
    )

    line_upper_fraction_max: float | None = 0.5
    """Lines with a larger share of capitals go (DCLM: 0.5)."""
    numeric: bool = True
    """Lines of digits alone go."""
    counter_words: tuple[str, ...] = (
        "likes", "shares", "comments", "retweets", "reposts", "quotes", "bookmarks", "upvotes", "downvotes",
        "downloads", "views", "followers",
        "赞", "点赞", "評論", "评论", "分享", "转发", "轉發", "收藏", "浏览", "瀏覽", "阅读", "閱讀", "粉丝",
        "いいね", "閲覧",
    )  # fmt: skip
    """Lines that are a number ("12", "3.4K", "1.2万") and one of these words go."""
    line_word_count_min: int | None = 2
    """Lines with fewer words go (RefinedWeb: lines of one word)."""
    phrase_line_words_max: int = 10
    """Longest line, in words, in which the phrases below are looked for (RefinedWeb)."""
    anywhere: tuple[str, ...] = ("items in cart",)
    """Phrases cut wherever they occur in a short line."""
    at_start: tuple[str, ...] = ("sign-in",)
    """Phrases cut from the start of a short line."""
    at_end: tuple[str, ...] = ("read more...",)
    """Phrases cut from the end of a short line."""
    cut_word_fraction_max: float | None = 0.05
    """Largest share of the words of a document that the corrections may cut (RefinedWeb: 5 %)."""

    def measure(self, view: View, resources: Any = None) -> Measured:
        """The metric of every document, and its text without the lines and phrases that go."""
        f = view.features
        pages, blocks = u.tables()
        most, at_end = 2 * len(f.line_words) + len(f.text.data) // 4 + 2, _table(self.at_end)
        spans, before = np.empty((most, 2), np.int64), np.empty(most, np.uint8)
        offsets, m = np.empty(len(f.text) + 1, np.int64), np.zeros((len(f.text), 2 + len(CUTS)), np.int64)
        pieces = _filter(
            f.text.data, f.token_flags, f.token_start, f.line_offsets, f.line_bytes, f.line_words, f.line_tokens,
            -1.0 if self.line_upper_fraction_max is None else self.line_upper_fraction_max, self.numeric,
            _table(self.counter_words), self.line_word_count_min or 0,
            self.phrase_line_words_max, _table(self.anywhere), _table(self.at_start),
            at_end, int(at_end[3].max()), pages, blocks, spans, before, offsets, m,
        )  # fmt: skip
        edited = assemble(f.text, Pieces(spans[:pieces], before[:pieces], offsets))
        cuts = m[:, 2:]
        cuts[:, _SPACE] = np.diff(f.text.offsets) - np.diff(edited.offsets) - cuts.sum(axis=1)
        columns = {"cut_word_fraction": ratio(m[:, 1], m[:, 0])}
        columns |= {CUT_PREFIX + cut: cuts[:, i] for i, cut in enumerate(CUTS)}
        return Measured(struct(columns), edited)


@kernel
def _match_end(data, i, end, table):  # type: ignore[no-untyped-def]
    """End of the longest phrase of a `PhraseTable` that starts at i < end, or i."""
    classes, goto, phrase, depths = table
    best = i
    state = 0
    for p in range(i, end):
        following = goto[state, classes[data[p]]]
        if depths[following] <= depths[state]:
            break
        state = following
        if phrase[state] >= 0:
            best = p + 1
    return best


@kernel
def _may_start(byte, table):  # type: ignore[no-untyped-def]
    """Whether a phrase begins with this byte; small enough to be inlined, which `_match_end` is not."""
    return table[1][0, table[0][byte]] != 0


@kernel
def _is_counter(data, start, end, words, pages, blocks):  # type: ignore[no-untyped-def]
    """A number with separators, K, M, B, 万, 萬 or 亿 after it, then one word of the list; signs around it allowed."""
    p = start
    while p < end and not begins_with_alnum(data, p, pages, blocks):
        p += 1
        while p < end and data[p] & 0xC0 == 0x80:
            p += 1
    while end > p:
        last = end - 1
        while last > p and data[last] & 0xC0 == 0x80:
            last -= 1
        if begins_with_alnum(data, last, pages, blocks):
            break
        end = last
    digits = 0
    while p < end and (0x30 <= data[p] <= 0x39 or data[p] in (0x2C, 0x2E)):
        digits += data[p] not in (0x2C, 0x2E)
        p += 1
    if digits == 0:
        return False
    if p < end and data[p] | 0x20 in (0x6B, 0x6D, 0x62):
        p += 1
    elif p + 3 <= end:
        c = np.int64(data[p]) << 16 | np.int64(data[p + 1]) << 8 | data[p + 2]
        if c in (0xE4B887, 0xE890AC, 0xE4BABF):
            p += 3
    while p < end and data[p] == 0x20:
        p += 1
    word_end = _match_end(data, p, end, words) if p < end else p
    return p < word_end == end


@kernel
def _mostly_upper(data, start, end, limit, pages, blocks):  # type: ignore[no-untyped-def]
    chars = uppers = 0
    i = start
    while i < end:
        b = data[i]
        if b < 0x80:
            chars += 1
            uppers += 0x41 <= b <= 0x5A
            i += 1
        else:
            c, n = decode(data, i)
            chars += 1
            uppers += (blocks[pages[c >> 8], c & 0xFF] & u.UPPER) != 0
            i += n
    return uppers > limit * chars


@kernel
def _all_digits(data, start, end):  # type: ignore[no-untyped-def]
    digits = 0
    for i in range(start, end):
        digits += 0x30 <= data[i] <= 0x39
    return digits == end - start


@kernel
def _filter(  # type: ignore[no-untyped-def]
    data, token_flags, token_start, line_offsets, line_bytes, line_words, line_tokens, upper_max, numeric, counter,
    words_min, phrase_words, anywhere, at_start, at_end, longest_end, pages, blocks, spans, before, offsets, out,
):  # fmt: skip
    """Pieces that are kept, whose number it returns; into out[D, 2 + CUTS] words that begin with a letter or digit,
    those cut, bytes cut by reason."""
    n = len(line_offsets) - 1
    pieces = 0
    for d in range(n):
        offsets[d] = pieces
        for i in range(line_offsets[d], line_offsets[d + 1]):
            words = line_words[i]
            spoken = count_spoken(data, token_flags, token_start, line_tokens[i], line_tokens[i + 1], pages, blocks)
            out[d, 0] += spoken
            a, b = line_bytes[i, 2], line_bytes[i, 3]
            cut = -1
            if words > 0:
                if upper_max >= 0 and _mostly_upper(data, a, b, upper_max, pages, blocks):
                    cut = _UPPER
                elif numeric and _all_digits(data, a, b):
                    cut = _NUMERIC
                elif _is_counter(data, a, b, counter, pages, blocks):
                    cut = _COUNTER
                elif words < words_min:
                    cut = _SHORT
            if cut >= 0:
                out[d, 1] += spoken
                out[d, 2 + cut] += b - a
                continue
            newline = np.uint8(_NEWLINE)
            first, last = line_bytes[i, 0], line_bytes[i, 1]
            if words > 0 and words <= phrase_words:
                start = _match_end(data, a, b, at_start)
                if start > a:
                    first = start
                stop = b
                for p in range(max(start, b - longest_end), b):
                    if _may_start(data[p], at_end) and _match_end(data, p, b, at_end) == b:
                        stop = p
                        break
                if stop < b:
                    last = stop
                gone = (start - a) + (b - stop)
                p = start
                while p < stop:
                    q = _match_end(data, p, stop, anywhere) if _may_start(data[p], anywhere) else p
                    if q == p:
                        p += 1
                        continue
                    if first < p:
                        spans[pieces, 0], spans[pieces, 1], before[pieces] = first, p, newline
                        newline = np.uint8(0)
                        pieces += 1
                    gone += q - p
                    first = p = q
                if gone:
                    out[d, 2 + _PHRASE] += gone
                    out[d, 1] += max(1, spoken * gone // (b - a))
                    rest = False
                    for p in range(first, last):
                        rest = rest or data[p] > 0x20
                    if not rest and newline != 0:
                        continue  # nothing is left of the line
            spans[pieces, 0], spans[pieces, 1], before[pieces] = first, last, newline
            pieces += 1
    offsets[n] = pieces
    return pieces


def _table(phrases: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    table = PhraseTable.build([phrases])
    return table.classes, table.goto, table.phrase, table.depths
