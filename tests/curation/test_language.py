"""Language identification: what fastText itself says, and accuracy on labelled sets, with floors."""

import gzip
import json
from pathlib import Path

import fasttext
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from raypt.curation.language import BUILTIN_MODEL, LanguageConfig, identify
from raypt.curation.lid_text import question_lines
from raypt.errors import UserError
from raypt.text.buffers import TextBatch
from tests.curation.figures import report
from tests.curation.strategies import BATCH

CORPORA = Path(__file__).resolve().parents[2].parent / "shared" / "corpora" / "multilingual"


def identified(texts: list[str], **values: object) -> tuple[list[str | None], np.ndarray]:
    lang, score = identify(TextBatch.from_arrow(pa.array(texts, pa.string())), LanguageConfig.model_validate(values))
    return lang.to_pylist(), score


def test_labels_and_scores_are_fasttexts_own() -> None:
    texts = ["This is an English sentence.\nAnd one more.", "Das ist ein Satz.", "这是一个中文句子。", "42"]
    model = fasttext.load_model(str(BUILTIN_MODEL))
    lang, score = identified(texts)
    for i, text in enumerate(texts):
        probability, label = model.f.predict(text.replace("\n", " ") + "\n", 1, 0.0, "strict")[0]
        assert lang[i] == label.removeprefix("__label__")
        assert score[i] == np.float32(min(probability, 1.0))


def test_text_after_a_line_feed_counts() -> None:
    assert identified(["x\n" + "这是一个中文句子，我们都会说。" * 5])[0] == ["zh"]


def test_a_document_without_text_has_no_language() -> None:
    lang, score = identified(["", "\n", " \u3000\t"])
    assert lang == [None] * 3
    assert score.tolist() == [0.0] * 3


ENGLISH = "The river rose again this year, and the people of the town had to leave their houses for a week."
GERMAN = "Der Fluss ist in diesem Jahr wieder gestiegen, und die Leute der Stadt mussten ihre Häuser verlassen."


@pytest.mark.parametrize(("text", "lang"), [(ENGLISH, "en"), (GERMAN, "de"), ("Река поднялась, и люди ушли", "ru")])
def test_capitals_and_no_break_spaces_change_no_language(text: str, lang: str) -> None:
    variants = [text, text.upper(), text.replace(" ", "\u00a0"), text.upper().replace(" ", "\u202f")]
    found, score = identified(variants)
    assert found == [lang] * 4
    assert score[2] == score[0]
    assert score[3] == score[1]


def test_a_document_in_mixed_case_is_asked_about_as_it_is() -> None:
    lines = question_lines(TextBatch.from_arrow(pa.array([ENGLISH + " NATO", "NATO AND the", "", "中文。"])), None)
    assert lines == [ENGLISH + " NATO\n", "nato and the\n", "\n", "中文。\n"]


@given(BATCH)
@settings(max_examples=50, deadline=None)
def test_what_is_asked_is_one_line_with_plain_spaces(texts: list[str]) -> None:
    for text, line in zip(texts, question_lines(TextBatch.from_arrow(pa.array(texts, pa.string())), None), strict=True):
        assert line.endswith("\n")
        assert not any(c.isspace() and ord(c) > 0x7F for c in line)
        spaced = "".join(" " * len(c.encode()) if c == "\n" or (c.isspace() and ord(c) > 0x7F) else c for c in text)
        assert line[:-1] in (spaced, spaced.lower())


def test_a_bounded_prefix_is_cut_at_a_character() -> None:
    assert identified(["这是一个中文句子。" + "This is English. " * 50], max_bytes=29)[0] == ["zh"]


def test_a_missing_model_is_named() -> None:
    with pytest.raises(UserError, match=r"curation\.language\.model: no file /nowhere\.bin"):
        identified(["x"], model="/nowhere.bin")


@pytest.mark.skipif(not CORPORA.exists(), reason="labelled sentences in shared/corpora/multilingual are absent")
@pytest.mark.parametrize(
    ("name", "floor", "floor_zh"),
    [
        ("lid_tatoeba.dev.jsonl.gz", 0.76, 0.93),
        ("lid_udhr_paragraphs.jsonl.gz", 0.73, 0.95),
        ("xquad_parallel.jsonl.gz", 0.999, 0.999),
    ],
)
def test_accuracy_on_labelled_text(name: str, floor: float, floor_zh: float) -> None:
    model = fasttext.load_model(str(BUILTIN_MODEL))
    known = {label.removeprefix("__label__") for label in model.get_labels()}
    with gzip.open(CORPORA / name) as f:
        rows = [row for row in map(json.loads, f) if row["lang"] in known][::4]
    lang, _ = identified([row["text"] for row in rows])
    right = np.array([found == row["lang"] for found, row in zip(lang, rows, strict=True)])
    chinese = np.array([row["lang"] == "zh" for row in rows])
    zh = right[chinese]
    report(f"{name}: language accuracy {right.mean():.4f} of {len(rows)}, zh {zh.mean():.4f} of {len(zh)}")
    assert right.mean() >= floor
    assert zh.mean() >= floor_zh
