"""The tables' answers against fastText's own: the same labels, and probabilities but for rounding."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.curation import lid_model
from raypt.curation.fasttext_file import check
from raypt.curation.fasttext_weights import Weights, read_weights
from raypt.curation.language import BUILTIN_MODEL
from raypt.curation.lid_model import LanguageModel
from raypt.curation.quality.fit import fit
from tests.tokens.helpers import CORPORA, corpus_texts

CLOSE = 2e-6
"""Of probabilities: some roundings of float32 (6e-8). fastText adds a text's rows up one after the other, the tables
word by word: what differs by more is held against sums of float64."""
ODD = [
    "", " ", "\t\v\f\r", "</s>", "the ship </s> der Hund", "</s> der Hund", "__label__en", "__label__en the ship",
    "__label__xx la mer", "a\0b", "x" * 3000, "é" * 40, "中文的句子没有空格", "ship " * 500, "<ship>", "> < <> ><",
]  # fmt: skip


def answers(model: Any, lines: list[str]) -> tuple[list[str | None], np.ndarray]:
    found = [model.f.predict(line, 1, 0.0, "strict") for line in lines]
    labels = [best[0][1].removeprefix("__label__") if best else None for best in found]
    return labels, np.array([min(best[0][0], 1.0) if best else 0.0 for best in found], np.float32)


def assert_same(path: str, texts: list[str]) -> None:
    weights = read_weights(path)
    assert weights is not None
    lines = [text.replace("\n", " ") + "\n" for text in texts]
    labels, scores = LanguageModel(weights).best(lines)
    expected, probabilities = answers(fasttext.load_model(path), lines)
    for line, label, score, theirs, probability in zip(lines, labels, scores, expected, probabilities, strict=True):
        if abs(score - probability) > CLOSE:
            assert abs(score - exact_probability(weights, line, label)) <= CLOSE, line
        assert label == theirs, (line, score)


def fasttext_hash(data: bytes) -> int:
    h = 2166136261
    for b in data:
        h = (h ^ (b | 0xFFFFFF00 if b >= 128 else b)) * 16777619 & 0xFFFFFFFF
    return h


def exact_probability(weights: Weights, line: str, label: str | None) -> float:
    """Of a label of a text, whose last line feed is the only one, in float64; loss.cc adds 1e-5 to what it takes the
    logarithm of."""
    rows: list[int] = []
    for word in [*re.split(rb"[ \t\v\f\r\0]+", line.removesuffix("\n").encode()), b"</s>"]:
        rows += [i for i, known in enumerate(weights.words) if known == word]
        if word in (b"", b"</s>"):
            continue
        characters = f"<{word.decode()}>"
        for i in range(len(characters)):
            for n in range(max(weights.minn, 1), weights.maxn + 1):
                part = characters[i : i + n]
                if len(part) == n and not (n == 1 and (i == 0 or i + n == len(characters))):
                    place = weights.places[fasttext_hash(part.encode()) % weights.buckets]
                    rows += [len(weights.words) + int(place)] if place >= 0 else []
    scores = weights.output.astype(np.float64) @ weights.rows[rows].astype(np.float64).mean(axis=0)
    at = weights.labels.index(str(label))
    if not weights.tree:
        return float(np.exp(scores[at]) / np.exp(scores).sum()) + 1e-5
    probability, children, n = 1.0, lid_model._tree(weights.label_counts), len(weights.labels)
    while at != 2 * n - 2:
        parent, right = (int(i[0]) for i in np.nonzero(children == at))
        yes = 1 / (1 + np.exp(-scores[parent]))
        probability, at = probability * ((yes if right else 1 - yes) + 1e-5), parent + n
    return float(probability)


@pytest.mark.skipif(not CORPORA.exists(), reason="needs ../shared/corpora")
def test_real_text_of_many_languages() -> None:
    web = CORPORA / "web" / "pages_text.dev.jsonl.gz"
    rows = gzip.decompress(web.read_bytes()).decode().split("\n")[:300] if web.exists() else []
    assert_same(str(BUILTIN_MODEL), [*corpus_texts(3), *(json.loads(row)["text"] for row in rows if row)])


def test_odd_text() -> None:
    assert_same(str(BUILTIN_MODEL), ODD)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_any_text(texts: list[str]) -> None:
    lines = [text.replace("\n", " ") + "\n" for text in texts]
    labels, scores = MODEL.best(lines)
    expected, probabilities = answers(THEIRS, lines)
    assert np.abs(scores - probabilities).max() <= CLOSE
    # Where two languages are equally probable but for rounding, either may be the first.
    assert all(a == b or s < 0.5 for a, b, s in zip(labels, expected, scores.tolist(), strict=True))


WEIGHTS = read_weights(str(BUILTIN_MODEL))
assert WEIGHTS is not None
MODEL, THEIRS = LanguageModel(WEIGHTS), fasttext.load_model(str(BUILTIN_MODEL))


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("training") / "train.txt"
    lines = [f"__label__{name} {words} {i} " * 3 for i in range(80) for name, words in zip("abc", WORDS, strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


WORDS = ("the ship on the sea", "der Hund im Garten", "学习 一个 模型 é")


@pytest.mark.parametrize(
    "values",
    [
        {"loss": "hs", "minn": 2, "maxn": 4, "bucket": 5000},
        {"loss": "softmax", "minn": 1, "maxn": 3, "bucket": 5000},
        {"loss": "softmax", "minn": 0, "maxn": 0},
    ],
    ids=["a tree of labels", "softmax", "words alone"],
)
def test_models_of_every_kind_that_has_tables(training: Path, values: dict[str, Any]) -> None:
    path = str(training.parent / "model.bin")
    fit(str(training), path, dim=5, epoch=5, lr=0.5, minCount=1, **values)
    assert_same(path, [*ODD, *WORDS, "the Hund 学习 unseen"])


@pytest.mark.parametrize("norms", [False, True])
def test_a_quantised_model(training: Path, norms: bool) -> None:
    whole = str(training.parent / "whole.bin")
    fit(str(training), whole, dim=6, epoch=5, lr=0.5, minCount=1, minn=2, maxn=4, bucket=2000)
    model = fasttext.load_model(whole)
    model.quantize(qnorm=norms, cutoff=300, dsub=2, thread=1)
    path = str(training.parent / "model.ftz")
    model.save_model(path)
    assert check(path).quantised
    assert_same(path, [*ODD, *WORDS, "the Hund 学习 unseen"])


@pytest.mark.parametrize("values", [{"wordNgrams": 2, "bucket": 1000}, {"loss": "ova"}, {"loss": "ns"}])
def test_others_are_left_to_fasttext(training: Path, values: dict[str, Any]) -> None:
    path = str(training.parent / "other.bin")
    fit(str(training), path, dim=2, epoch=1, minCount=1, **values)
    assert read_weights(path) is None


def test_a_full_table_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"the river {i} of the old town, der Fluss {i * i}\n" for i in range(200)]
    monkeypatch.setattr(lid_model, "_KEPT_WORDS", 64)
    assert WEIGHTS is not None
    few = LanguageModel(WEIGHTS)
    labels, scores = few.best(texts)
    again, same = few.best(texts)
    expected, probabilities = MODEL.best(texts)
    assert labels == again == expected
    assert scores.tolist() == same.tolist() == probabilities.tolist()
