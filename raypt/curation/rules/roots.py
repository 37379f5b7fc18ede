"""The filters of ROOTS for OSCAR (Laurençon et al. 2022, arXiv:2303.03915), as in BigScience's code:
bigscience-workshop/data-preparation, preprocessing/training/01b_oscar_cleaning_and_filtering, filtering.py. Thresholds
are the `default` of its parameters_filtering.py; its values by language are in jobs/configs/recipes/roots.yaml.

Words are what stands between white space, in small letters, without special characters at their ends; a word of special
characters alone is none. A special character is ASCII punctuation, a digit, white space, an emoji, or one of a list of
signs (`special_characters.py`). The document is its text without control characters and without white space at its
ends; other white space is a blank a character.

Beyond it: Chinese and Japanese have no pieces of CCNet's SentencePiece model here: a character is a word, and what
stands between such characters. Line ends stay: there the text itself gets blanks for them.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from raypt.curation import languages as tongues
from raypt.curation.base import CHANGED_PREFIX, CUT_PREFIX
from raypt.curation.phrases import read_list
from raypt.curation.rules.base import RuleSettings, ratio, struct
from raypt.curation.rules.roots_kernel import (
    CHAR_GRAMS,
    CHARS,
    COLUMNS,
    COUNTED,
    CUT,
    FLAGGED,
    REPEATED,
    SPECIAL,
    STOPS,
    TOP,
    WORD_GRAMS,
    WORDS,
    measure,
)
from raypt.curation.rules.special_characters import character_kinds
from raypt.curation.view import Measured, View
from raypt.curation.word_sets import WordSets
from raypt.text.buffers import TextBatch
from raypt.text.hash_table import hash_table, most_in_a_document
from raypt.text.unicode import lower_case

UNSPACED_SCRIPTS = frozenset(("Hans", "Hant", "Jpan", "Thai", "Laoo", "Khmr", "Mymr"))
_BY_LANGUAGE = ("stop_words", "flagged_words", "character_gram_by_language", "word_gram_by_language", "cut_words")
"""Settings by language."""


class Roots(RuleSettings):
    """Words, repetition, special characters, stop words and flagged words as ROOTS counts them."""

    stage: ClassVar[str] = "roots"
    edits: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = (
        "word_count",
        "repeated_character_fraction",
        "repeated_word_fraction",
        "special_character_fraction",
        "stop_word_fraction",
        "flagged_word_fraction",
    )

    word_count_min: int | None = 10
    """Fewest words (number_words_min_cutoff)."""
    word_count_max: int | None = 100_000
    """Most words (number_words_max_cutoff)."""
    repeated_character_fraction_max: float | None = 0.2
    """Largest share of n-grams of characters that are among the most frequent ones: of d different n-grams the square
    root of d, but only those that occur more than once (character_repetition_max_cutoff)."""
    repeated_word_fraction_max: float | None = 0.3
    """Largest share of n-grams of words that occur more than once (word_repetition_max_cutoff)."""
    special_character_fraction_max: float | None = 0.4
    """Largest share of special characters (special_characters_max_cutoff)."""
    stop_word_fraction_min: float | None = 0.1
    """Smallest share of stop words among the words (stopwords_min_cutoff), where the language has a list."""
    flagged_word_fraction_max: float | None = 0.1
    """Largest share of flagged words among the words (flagged_words_max_cutoff), where the language has a list."""

    stop_words: dict[str, str] = Field(default_factory=dict)
    """Files or URIs with stop words by language (any code), one a line. The bound is made for ROOTS's lists, of
    hundreds of words (stopwords.py there): raypt's own short ones do not reach it."""
    flagged_words: dict[str, str] = Field(default_factory=dict)
    """Files or URIs with flagged words by language, one a line (flagged_words.py there)."""
    pairs: tuple[str, ...] = ("vi", "zh")
    """Languages in which two words in a row are looked up in the lists as one, too (words_augmentation_group_sizes)."""
    character_gram: int = Field(10, ge=2, le=64)
    """Characters of an n-gram (character_repetition_length)."""
    character_gram_by_language: dict[str, int] = Field(default_factory=lambda: {"zh": 3})
    """Languages where it is another."""
    word_gram: int = Field(5, ge=2, le=64)
    """Words of an n-gram (word_repetition_length)."""
    word_gram_by_language: dict[str, int] = Field(default_factory=lambda: {"ur": 7})
    """Languages where it is another."""
    cut_words: dict[str, int] = Field(default_factory=dict)
    """Languages whose documents lose words before they are measured: those of more characters than this
    (length_word_max_cutoff), and those with `cut_words_with`. There a run of white space counts as one blank."""
    cut_words_with: tuple[str, ...] = ("http", "www", ".com", "href", "//")
    """What a word may not have inside (incorrect_word_substrings), in the documents of those languages."""

    def asks_language(self) -> str | None:
        """A setting by language, if there is any."""
        return next((key for key in _BY_LANGUAGE if getattr(self, key)), None)

    def named_languages(self) -> Mapping[str, Iterable[str]]:
        """Those of every setting by language that are not among its defaults."""
        usual = type(self)()
        keys = (*_BY_LANGUAGE, "pairs")
        return {key: [name for name in getattr(self, key) if name not in getattr(usual, key)] for key in keys}

    def named_files(self) -> Mapping[str, str]:
        """The lists."""
        keys = ("stop_words", "flagged_words")
        return {f"{key}.{language}": uri for key in keys for language, uri in getattr(self, key).items()}

    def load(self, artefact: str | None) -> WordSets:
        """The lists, hashed; UserError for a file that is not there."""

        def words(key: str) -> dict[str, tuple[str, ...]]:
            files: dict[str, str] = getattr(self, key)
            return {language: read_list(uri, f"curation.roots.{key}.{language}") for language, uri in files.items()}

        return WordSets.build((words("stop_words"), words("flagged_words")))

    def measure(self, view: View, resources: Any = None) -> Measured:
        """The metrics of every document, and its text without the words that are cut."""
        sets: WordSets = self.load(None) if resources is None else resources
        labels: list[str | None] = view.languages.to_pylist()
        ways = np.stack(
            [
                _by_language(labels, self.character_gram, self.character_gram_by_language),
                _by_language(labels, self.word_gram, self.word_gram_by_language),
                _by_language(labels, 0, self.cut_words),
                _by_language(labels, 0, dict.fromkeys(self.pairs, 1)),
                _unspaced(labels),
                sets.index(labels),
            ],
            axis=1,
        )
        text = view.text
        out, bounds = np.empty(text.nbytes if self.cut_words else 0, np.uint8), np.zeros(len(text) + 1, np.int64)
        m = np.zeros((len(text), COLUMNS), np.int64)
        most = most_in_a_document(text.offsets) + 1
        keys, stamps = hash_table(most)
        needles = "".join(self.cut_words_with)
        measure(
            text.data, text.offsets, ways, character_kinds(), lower_case(), sets.starts, sets.masks, sets.keys,
            sets.bits, np.frombuffer(needles.encode("utf-32-le"), np.uint32),
            np.cumsum([len(needle) for needle in self.cut_words_with], dtype=np.int64), np.empty(most, np.uint32),
            np.empty(most, np.uint64), keys, stamps, np.empty(len(keys), np.int32), np.zeros(most + 1, np.int32),
            bool(self.cut_words), out, bounds, m,
        )  # fmt: skip
        listed = [self._listed(labels, files) for files in (self.stop_words, self.flagged_words)]
        shares = [
            np.where(has, np.minimum(ratio(m[:, column], m[:, WORDS]), 1.0), np.nan)
            for has, column in zip(listed, (STOPS, FLAGGED), strict=True)
        ]
        columns: dict[str, Any] = {
            "word_count": m[:, COUNTED],
            "repeated_character_fraction": ratio(m[:, TOP], m[:, CHAR_GRAMS]),
            "repeated_word_fraction": ratio(m[:, REPEATED], m[:, WORD_GRAMS]),
            "special_character_fraction": ratio(m[:, SPECIAL], m[:, CHARS]),
            "stop_word_fraction": shares[0],
            "flagged_word_fraction": shares[1],
        }
        if not self.cut_words:
            return Measured(struct(columns))
        columns |= {CHANGED_PREFIX + "word": m[:, CUT] > 0, CUT_PREFIX + "word": m[:, CUT]}
        return Measured(struct(columns), TextBatch(out[: bounds[-1]], bounds))

    @staticmethod
    def _listed(labels: list[str | None], files: Mapping[str, str]) -> np.ndarray:
        has = {label: tongues.match(label, files) is not None for label in set(labels)}
        return np.array([has[label] for label in labels], bool)


def _by_language(labels: list[str | None], usual: int, special: Mapping[str, int]) -> np.ndarray:
    """int64[n]: the value of each document's language, `usual` where it has none of its own."""
    keys = {label: tongues.match(label, special) for label in set(labels)}
    values = {label: usual if key is None else special[key] for label, key in keys.items()}
    return np.array([values[label] for label in labels], np.int64)


def _unspaced(labels: list[str | None]) -> np.ndarray:
    """int64[n]: 1 for a language written without spaces."""
    read = {label: tongues.read(label) if label else None for label in set(labels)}
    unspaced = {
        label: int(found is not None and bool(found.scripts & UNSPACED_SCRIPTS)) for label, found in read.items()
    }
    return np.array([unspaced[label] for label in labels], np.int64)
