"""Words of scripts written without spaces, as a segmenter finds them: another package, imported only where asked for.

By itself raypt takes a Chinese, Japanese or Thai character for a word. Thresholds of a recipe whose words came from a
segmenter (FineWeb-2) mean those: `Segmenters.words` puts them in the place of the tokens of such documents.
"""

import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from raypt.curation import languages
from raypt.curation.features import Features
from raypt.curation.scan import classes_of
from raypt.curation.segment import store_token
from raypt.errors import UserError
from raypt.kernels import kernel
from raypt.settings import Settings
from raypt.text import unicode as u

INSTALL = "pip install 'raypt[segment]'"
PACKAGES = {"jieba": ("jieba",), "sudachi": ("sudachipy", "sudachidict_core"), "pythainlp": ("pythainlp",)}
"""Segmenter -> what it needs."""
_SUDACHI_CHARS = 12_000
"""Sudachi refuses more than 49,149 bytes at once."""

Cut = Callable[[str], list[str]]
"""A text's words in order, punctuation and white space among them or left out."""


class Words(Settings):
    """What a word is, where a script has no spaces, to gopher_repetition, gopher_quality and fineweb."""

    segmenters: dict[str, Literal["jieba", "sudachi", "pythainlp"]] = Field(default_factory=dict)
    """Segmenter by language (any code), as FineWeb-2 has them: `{zh: jieba, yue: jieba, ja: sudachi, th: pythainlp}`;
    they need `pip install 'raypt[segment]'`. A language that is not named has a word a character. They take most of
    curation's time: docs/data.md has figures."""

    @model_validator(mode="after")
    def _once(self) -> "Words":
        for name in self.segmenters:
            if languages.read(name) is None:
                raise ValueError(f"segmenters: {name!r} is no language that raypt knows, by any code or English name")
        if pair := languages.twice(self.segmenters):
            raise ValueError(f"segmenters: {pair[0]} and {pair[1]} are the same language; name it once")
        return self

    def packages(self) -> dict[str, str]:
        """Those that the segmenters need, and how to install each."""
        return {package: INSTALL for name in self.segmenters.values() for package in PACKAGES[name]}


class Segmenters:
    """The segmenters of a configuration, each loaded at its first document."""

    def __init__(self, by_language: Mapping[str, str]) -> None:
        self.by_language = by_language

    def words(self, features: Features, labels: pa.Array) -> Features:
        """The features with a segmenter's words for tokens, in documents (string[D] `labels`) of its languages; these
        say nothing of the tokens of lines."""
        found = labels.to_pylist()
        keys = {label: languages.match(label, self.by_language) for label in set(found)}
        asked = [self.by_language[key] if (key := keys[label]) is not None else None for label in found]
        if not any(asked):
            return features
        data, bounds = features.text.data, features.text.offsets
        arrays = (features.token_hash, features.token_chars, features.token_start, features.token_flags)
        parts: list[tuple[np.ndarray, ...]] = []
        counts = []
        for d, name in enumerate(asked):
            if name is None:
                own = tuple(a[features.token_offsets[d] : features.token_offsets[d + 1]] for a in arrays)
            else:
                own = _tokens(data, int(bounds[d]), int(bounds[d + 1]), _cut(name))
            parts.append(own)
            counts.append(len(own[0]))
        token_hash, chars, start, flags = (np.concatenate(column) for column in zip(*parts, strict=True))
        return replace(
            features,
            token_offsets=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
            token_hash=token_hash,
            token_chars=chars,
            token_start=start,
            token_flags=flags,
            line_tokens=np.zeros(0, np.int64),
        )


def _tokens(data: np.ndarray, start: int, end: int, cut: Cut) -> tuple[np.ndarray, ...]:
    """hash uint64, chars int32, start int32, flags uint8 of the words of the document at data[start:end]."""
    text = data[start:end].tobytes().decode("utf-8")
    spans = np.array(_spans(text, cut(text)), np.int64).reshape(-1, 2)
    n = len(spans)
    out = (np.empty(n, np.uint64), np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, np.uint8))
    pages, blocks = u.tables()
    classes, at = np.empty(len(text) + 1, np.uint16), np.empty(len(text) + 2, np.int32)
    n = _store(data, start, end, spans, pages, blocks, classes, at, *out)
    return tuple(a[:n] for a in out)


def _spans(text: str, words: list[str]) -> list[tuple[int, int]]:
    """Where each word lies in the text, characters; one that is not in what is left of it is not there."""
    out, here = [], 0
    for word in words:
        at = text.find(word, here) if word else -1
        if at >= 0:
            here = at + len(word)
            out.append((at, here))
    return out


@kernel
def _store(data, start, end, spans, pages, blocks, cls, pos, t_hash, t_chars, t_start, t_flags):  # type: ignore[no-untyped-def]
    """Each word without the white space around it as a token; returns their number."""
    chars = classes_of(data, start, end, pages, blocks, cls, pos)
    n = 0
    for w in range(len(spans)):
        a, b = spans[w, 0], min(spans[w, 1], chars)
        while a < b and cls[a] & (u.SPACE | u.BREAK):
            a += 1
        while b > a and cls[b - 1] & (u.SPACE | u.BREAK):
            b -= 1
        if a == b:
            continue
        any_of, all_of = np.uint16(0), np.uint16(0xFFFF)
        for i in range(a, b):
            any_of |= cls[i]
            all_of &= cls[i]
        after = a == 0 or cls[a - 1] & (u.SPACE | u.BREAK) != 0
        # A word like any other: n-grams put a blank beside it, and its length counts.
        any_of &= np.uint16(0xFFFF ^ u.UNSPACED)
        n = store_token(n, a, b, any_of, all_of, after, data, pos, t_hash, t_chars, t_start, t_flags)
    return n


@cache
def _cut(name: str) -> Cut:
    """A segmenter, loaded once a process. UserError where its package is not installed."""
    try:
        return {"jieba": _jieba, "sudachi": _sudachi, "pythainlp": _pythainlp}[name]()
    except ImportError as e:
        raise UserError(f"curation.words.segmenters: {name} is not installed on this machine: {INSTALL} ({e})") from e


def _jieba() -> Cut:
    """As spaCy calls it for datatrove: exact mode, unknown words by its hidden Markov model."""
    import jieba

    jieba.setLogLevel(logging.WARNING)
    tokenizer: Any = jieba.Tokenizer()
    with tempfile.TemporaryDirectory() as where:  # not the cache in /tmp, which any user of the machine may have left
        tokenizer.tmp_dir = where
        tokenizer.initialize()
    return lambda text: list(tokenizer.cut(text))


def _sudachi() -> Cut:
    """As spaCy calls it for datatrove: mode A, the shortest units."""
    from sudachipy import Dictionary, SplitMode

    tokenizer: Any = Dictionary(dict="core").create(SplitMode.A)

    def cut(text: str) -> list[str]:
        pieces = (text[i : i + _SUDACHI_CHARS] for i in range(0, len(text), _SUDACHI_CHARS))
        return [word.surface() for piece in pieces for word in tokenizer.tokenize(piece)]

    return cut


def _pythainlp() -> Cut:
    """As datatrove calls it: maximal matching that does not take exponential time (newmm-safe)."""
    from pythainlp.tokenize import word_tokenize

    return lambda text: word_tokenize(text, keep_whitespace=False, engine="newmm-safe") if text else []
