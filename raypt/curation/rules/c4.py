"""C4's rules (Raffel et al. 2020, arXiv:1910.10683, section 2.2, and its TensorFlow Datasets code), as datatrove 0.10
reads them: lines are stripped, bad lines and blank lines go, then whole documents are judged by what is left.

Beyond English: the words of a line count each character of an unspaced script; a line may end with any script's
sentence-final mark, and in scripts that have none (Thai, Lao) with any letter; there a space ends a sentence.
"""

import functools
from typing import Any, ClassVar

import numpy as np

from raypt.curation import features as s
from raypt.curation.base import CUT_PREFIX
from raypt.curation.phrases import PhraseTable, groups_in
from raypt.curation.rewrite import Pieces, assemble
from raypt.curation.rules.base import RuleSettings, struct
from raypt.curation.scan import end_flags
from raypt.curation.view import Measured, View
from raypt.kernels import kernel
from raypt.text import unicode as u
from raypt.text.hashing import hash_bytes

# Why a line goes, in the order in which the rules are asked; "white_space" is blank lines, indentation and line ends.
CUTS = ("white_space", "long_word", "no_terminal_punctuation", "short_line", "javascript", "policy", "citation")
_SPACE, _LONG, _UNENDED, _SHORT, _JAVASCRIPT, _POLICY, _CITATION = range(len(CUTS))
_LOREM_BIT, _JAVASCRIPT_BIT, _POLICY_BIT, _BRACE_BIT, _BRACKET_BIT = (np.uint64(1 << i) for i in range(5))
_NEWLINE = 0x0A


class C4(RuleSettings):
    """C4 (Raffel et al. 2020). Defaults are FineWeb's: the paper's terminal punctuation rule off, and datatrove's
    3 words a line and 5 sentences (the paper: 5 words, 3 sentences: preset `c4`). The settings of line rules, those
    without `_min` or `_max` and the two named `line_*`, change the text itself: changing them means tagging again."""

    stage: ClassVar[str] = "c4"
    edits: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("lorem_ipsum_line_count", "curly_bracket_line_count", "sentence_count")
    edit_settings: ClassVar[tuple[str, ...]] = ("line_longest_word_max", "line_word_count_min")

    line_longest_word_max: int | None = 1000
    """Lines with a longer word go (characters; TFDS code)."""
    terminal_punctuation: bool = False
    """Keep only lines that end in a sentence-final mark or a quotation mark, and not in an ellipsis (paper: on).
    FineWeb found that it removes 30 % of all text."""
    line_word_count_min: int | None = 3
    """Lines with fewer words go (datatrove: 3; paper and TFDS: 5)."""
    javascript: bool = True
    """Lines with the word "javascript" go."""
    policy_phrases: tuple[str, ...] = (
        "terms of use",
        "privacy policy",
        "cookie policy",
        "uses cookies",
        "use of cookies",
        "use cookies",
    )
    """Lines with one of these phrases go (TFDS code)."""
    citations: bool = True
    """Cut "[1]", "[]", "[edit]" and "[citation needed]" out of lines (TFDS code)."""
    lorem_ipsum_line_count_max: int | None = 0
    """Most lines with "lorem ipsum" (paper: none). Only lines that the line rules above did not cut count."""
    curly_bracket_line_count_max: int | None = 0
    """Most lines with "{" (paper: none)."""
    sentence_count_min: int | None = 5
    """Fewest sentences in the lines that are left (datatrove: 5; paper and TFDS: 3)."""

    def measure(self, view: View, resources: Any = None) -> Measured:
        """The metrics of every document, and its text without the lines that go."""
        features = view.features
        pages, blocks = u.tables()
        phrases = PhraseTable.build([["lorem ipsum"], ["javascript"], self.policy_phrases, ["{"], ["["]])
        unlimited = np.iinfo(np.int32).max
        most = len(features.line_words) + int(np.count_nonzero(features.text.data == 0x5B)) + 1
        spans, before, offsets = (
            np.empty((most, 2), np.int64),
            np.empty(most, np.uint8),
            np.empty(len(view) + 1, np.int64),
        )
        m = np.zeros((len(view), 3 + len(CUTS)), np.int64)
        n = _filter(
            features.text.data, features.token_flags, features.token_hash, starters(),
            features.line_offsets, features.line_bytes, features.line_words,
            features.line_longest, features.line_tokens, pages, blocks, phrases.classes, phrases.goto, phrases.masks,
            unlimited if self.line_longest_word_max is None else self.line_longest_word_max,
            self.line_word_count_min or 0, self.terminal_punctuation, self.javascript, self.citations,
            spans, before, offsets, m,
        )  # fmt: skip
        edited = assemble(features.text, Pieces(spans[:n], before[:n], offsets))
        cuts = m[:, 3:]
        cuts[:, _SPACE] = np.diff(features.text.offsets) - np.diff(edited.offsets) - cuts[:, 1:].sum(axis=1)
        columns = dict(zip(self.metrics, m.T, strict=False))
        columns |= {CUT_PREFIX + cut: cuts[:, i] for i, cut in enumerate(CUTS)}
        return Measured(struct(columns), edited)


@kernel
def _citation_end(data, i, end):  # type: ignore[no-untyped-def]
    """Where the citation mark at "[" ends ("[12]", "[]", "[edit]", "[citation needed]"), or i if it is none."""
    p = i + 1
    while p < end and 0x30 <= data[p] <= 0x39:
        p += 1
    if p < end and data[p] == 0x5D:
        return p + 1
    for word in (b"edit]", b"citation needed]"):
        if i + 1 + len(word) <= end:
            same = True
            for k in range(len(word)):
                if data[i + 1 + k] != word[k]:
                    same = False
                    break
            if same:
                return i + 1 + len(word)
    return i


STARTERS = (
    "The He She It They We You I This That These Those There Here Then But And So If When While As For After Before "
    "Because However Since Although Our His Her Their Its My Your What Who How Why Where Not No Yes Now Also Some Many "
    "Most All Each Both Such One In On At By From With To Es Er Sie Wir Ich Das Aber Und Wenn Im Il Elle Nous Vous Ils "
    "Elles Cette Mais Dans Quand Pour Esto Esta Este Pero Cuando Con Para Una Quando Mas Isso Ma Questo Questa Он Она "
    "Оно Они Мы Вы Это Но Как Когда"
)
"""Words that start a sentence after a full stop that belongs to the word before it ("plan B. Then"): function words
that are no part of a name, as a "Van" after an initial is."""


@functools.cache
def starters() -> np.ndarray:
    """uint64[W]: sorted hashes of STARTERS."""
    words = [np.frombuffer(word.encode(), np.uint8) for word in set(STARTERS.split())]
    return np.sort(np.array([hash_bytes(word, 0, len(word)) for word in words], np.uint64))


@kernel
def _is_among(sorted_values, value):  # type: ignore[no-untyped-def]
    low, high = 0, len(sorted_values)
    while low < high:
        middle = (low + high) >> 1
        if sorted_values[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low < len(sorted_values) and sorted_values[low] == value


@kernel
def count_sentences(flags, hashes, starting, first, last):  # type: ignore[no-untyped-def]
    """Sentences among tokens [first, last): one starts at the first token, at the first word after a sentence-final
    mark, at a word in `starting` after a full stop that was kept with its word, and in a script without such marks at
    each token after a space."""
    if first == last:
        return 0
    n = 1
    ended = False
    for t in range(first, last):
        f = flags[t]
        if t > first and flags[t - 1] & s.KEPT_STOP and f & s.HAS_ALPHA and _is_among(starting, hashes[t]):
            n += 1
            ended = False
            continue
        if f & s.STOP:
            ended = True
        elif ended and not f & s.PUNCT_ONLY:
            n += 1
            ended = False
        elif f & s.NO_STOPS and f & s.AFTER_SPACE and t > first and flags[t - 1] & s.NO_STOPS:
            n += 1
    return n


@kernel
def _filter(  # type: ignore[no-untyped-def]
    data, token_flags, token_hash, starting, line_offsets, line_bytes, line_words, line_longest, line_tokens,
    pages, blocks, classes, goto, masks, longest_max, words_min, terminal, javascript, citations,
    spans, before, offsets, out,
):  # fmt: skip
    """The pieces that are kept, into spans, before and offsets; into out[D, 3 + CUTS] lorem ipsum lines, brace lines,
    sentences and bytes cut by reason. Returns the number of pieces."""
    n = len(line_offsets) - 1
    pieces = 0
    for d in range(n):
        offsets[d] = pieces
        for i in range(line_offsets[d], line_offsets[d + 1]):
            a, b = line_bytes[i, 2], line_bytes[i, 3]
            cut = -1
            found = np.uint64(0)
            if a == b:
                cut = _SPACE
            elif line_longest[i] > longest_max:
                cut = _LONG
            else:
                found = groups_in(data, a, b, classes, goto, masks)
                end = b
                if citations and found & _BRACKET_BIT:  # the line's end without the marks that close it
                    p = a
                    last_kept = a
                    while p < b:
                        stop = _citation_end(data, p, b) if data[p] == 0x5B else p
                        if stop > p:
                            p = stop
                        else:
                            p += 1
                            last_kept = p
                    end = last_kept
                flags = end_flags(data, a, end, pages, blocks) if terminal and a < end else np.uint8(0)
                if terminal and (flags & s.ELLIPSIS_END or not flags & (s.STOP_END | s.QUOTE_END | s.NO_STOPS_END)):
                    cut = _UNENDED
                elif line_words[i] < words_min:
                    cut = _SHORT
                else:
                    if found & _LOREM_BIT:
                        out[d, 0] += 1
                    if javascript and found & _JAVASCRIPT_BIT:
                        cut = _JAVASCRIPT
                    else:
                        if found & _BRACE_BIT:
                            out[d, 1] += 1
                        if found & _POLICY_BIT:
                            cut = _POLICY
            if cut >= 0:
                out[d, 3 + cut] += b - a
                continue
            out[d, 2] += count_sentences(token_flags, token_hash, starting, line_tokens[i], line_tokens[i + 1])
            newline = np.uint8(_NEWLINE)
            if citations and found & _BRACKET_BIT:
                start = p = a
                while p < b:
                    stop = _citation_end(data, p, b) if data[p] == 0x5B else p
                    if stop == p:
                        p += 1
                        continue
                    out[d, 3 + _CITATION] += stop - p
                    if start < p:
                        spans[pieces, 0], spans[pieces, 1], before[pieces] = start, p, newline
                        pieces += 1
                        newline = np.uint8(0)
                    start = p = stop
                a = start
            if a < b:
                spans[pieces, 0], spans[pieces, 1], before[pieces] = a, b, newline
                pieces += 1
    offsets[n] = pieces
    return pieces
