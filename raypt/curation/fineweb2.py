"""FineWeb-2's thresholds by language and script (Penedo et al. 2025, arXiv:2506.20920), as published.

`assets/fineweb2.txt` has a line for each of 53 of its large languages, read from `configs/<language>.yml` of
github.com/huggingface/fineweb-2 (commits d331bee and 05e6729, in one of which the last values of each stand; Turkish
ones could not be had): the language's score under GlotLID, `dup_line_frac`, `dup_n_grams` 5 to 10, `line_punct_thr`,
`max_avg_word_length`, `min_avg_word_length`, `max_non_alpha_words_ratio`, `new_line_ratio`, `top_n_grams` 2 to 4,
`stopwords`.

They were made on words of a segmenter (jieba for Chinese, and so on), which `curation.words.segmenters` configures.
Without one a character of Chinese, Japanese or Thai is a word: so repetition of the same text is that of shorter
n-grams, line breaks are fewer a word, and stop words of more than one character cannot be met; of those languages only
the stop words of one character are taken, beside raypt's own.
"""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from raypt.curation import languages
from raypt.curation.stopwords import STOP_WORDS

_TABLE = Path(__file__).parent / "assets" / "fineweb2.txt"
_UNSPACED = ("Hans", "Hant", "Jpan", "Thai", "Laoo", "Khmr", "Mymr")


@functools.cache
def fineweb2() -> dict[str, Any]:
    """Values by section of a curation configuration: `language`, `gopher_quality`, `by_language`."""
    scores: dict[str, float] = {}
    words: dict[str, tuple[str, ...]] = {}
    by_language: dict[str, dict[str, dict[str, float]]] = {}
    for line in _TABLE.read_text(encoding="utf-8").splitlines():
        label, *numbers, stop = line.split("\t")
        score, lines, *rest = map(float, numbers)
        repeated, (ended, longest, shortest, letters, breaks), top = rest[:6], rest[6:11], rest[11:]
        scores[label] = score
        words[label] = _stop_words(label, tuple(stop.split(" ")))
        by_language[label] = {
            "gopher_repetition": {
                "duplicate_line_fraction_max": lines,
                **{f"duplicate_{n}_gram_char_fraction_max": limit for n, limit in enumerate(repeated, 5)},
                **{f"top_{n}_gram_char_fraction_max": limit for n, limit in enumerate(top, 2)},
            },
            "gopher_quality": {
                "mean_word_length_min": shortest,
                "mean_word_length_max": longest,
                "alpha_word_fraction_min": letters,
            },
            "fineweb": {"ended_line_fraction_min": ended, "newline_to_word_ratio_max": breaks},
        }
    return {
        "language": {"score_min_by_language": scores},
        "gopher_quality": {"stop_words": words},
        "by_language": by_language,
    }


def segmented_stop_words(segmenters: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The published stop words, and no others, of the languages that have a segmenter."""
    named = tuple(segmenters)
    lines = _TABLE.read_text(encoding="utf-8").splitlines() if named else []
    found = {line.split("\t")[0]: tuple(line.rpartition("\t")[2].split(" ")) for line in lines}
    return {label: words for label, words in found.items() if languages.match(label, named) is not None}


def _stop_words(label: str, published: tuple[str, ...]) -> tuple[str, ...]:
    found = languages.read(label)
    if found is None or not found.scripts & set(_UNSPACED):
        return published
    own = languages.same(label, STOP_WORDS)
    return tuple(dict.fromkeys([*(word for word in published if len(word) == 1), *(STOP_WORDS[own] if own else ())]))
