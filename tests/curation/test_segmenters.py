"""Words of a segmenter in the place of characters: which tokens they make, and of which documents."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raypt.curation import features as f
from raypt.curation.config import CurationConfig
from raypt.curation.fineweb2 import fineweb2
from raypt.curation.scan import scan
from raypt.curation.segmenters import INSTALL, PACKAGES, Segmenters, _tokens
from raypt.curation.tagger import Tagger
from raypt.curation.view import View
from raypt.text.buffers import TextBatch

pytestmark = pytest.mark.fast

CHINESE = "今天天气很好，我们去公园。\nHello world 3.14！\n"
CASES = [
    (
        "zh",
        "jieba",
        CHINESE,
        ["今天天气", "很", "好", "，", "我们", "去", "公园", "。", "Hello", "world", "3.14", "！"],
    ),
    ("ja", "sudachi", "国立大学へ行きました。", ["国立", "大学", "へ", "行き", "まし", "た", "。"]),
    ("th", "pythainlp", "ฉันรักภาษาไทย 10 ปี", ["ฉัน", "รัก", "ภาษาไทย", "10", "ปี"]),
]


def installed(segmenter: str) -> None:
    for package in PACKAGES[segmenter]:
        pytest.importorskip(package, reason=INSTALL)


def spelled(features: Any, d: int = 0) -> list[str]:
    """The tokens of a document."""
    data, out = features.text.data, []
    for t in range(features.token_offsets[d], features.token_offsets[d + 1]):
        start, chars = features.token_start[t], features.token_chars[t]
        out.append(data[start:].tobytes().decode("utf-8", "ignore")[:chars])
    return out


@pytest.mark.parametrize(("language", "segmenter", "text", "words"), CASES)
def test_tokens_are_the_segmenters_words(language: str, segmenter: str, text: str, words: list[str]) -> None:
    installed(segmenter)
    english = "A dog, a cat."
    batch = TextBatch.from_arrow(pa.array([english, text, text]))
    plain = scan(batch)
    labels = pa.array(["en", language, None])
    found = Segmenters({language: segmenter}).words(plain, labels)
    assert spelled(found, 1) == words
    assert spelled(found, 0) == spelled(plain, 0)
    assert spelled(found, 2) == spelled(plain, 2) != words  # of no known language


def test_a_word_counts_as_one_of_a_script_with_spaces() -> None:
    """Hash, length and flags are those of the same words between blanks."""
    words = ["今天天气", "很", "T恤", "，", "ok", "!!", "3.14", "か゚な"]
    text = "".join(words)
    data = np.frombuffer(("x" + text).encode(), np.uint8)  # a document in the middle of a batch
    token_hash, chars, start, flags = _tokens(data, 1, len(data), lambda _: words)
    for i, word in enumerate(words):
        own = np.frombuffer(word.encode(), np.uint8)
        alone = _tokens(own, 0, len(own), lambda text: [text])
        assert token_hash[i] == alone[0][0]
        assert chars[i] == len(word)
        assert data[start[i] :].tobytes().decode().startswith(word)
    assert not (flags & f.UNSPACED).any()
    assert (flags & f.HAS_ALPHA != 0).tolist() == [any(c.isalpha() for c in word) for word in words]
    assert (flags & f.SYMBOL_ONLY != 0).tolist() == [word in "，!!" for word in words]
    assert (flags & f.AFTER_SPACE != 0).tolist() == [True] + [False] * 7


def test_white_space_is_no_word_and_words_that_are_not_in_the_text_are_left_out() -> None:
    text = "  甲乙 \n丙　丁"
    data = np.frombuffer(text.encode(), np.uint8)
    cut = ["  ", "甲乙 ", "\n", "no", "丙", "　丁"]
    token_hash, chars, _, flags = _tokens(data, 0, len(data), lambda _: cut)
    assert chars.tolist() == [2, 1, 1] and len(token_hash) == 3
    assert (flags & f.AFTER_SPACE != 0).all()


def test_the_words_of_a_document_follow_its_language_when_that_is_found_later() -> None:
    installed("jieba")
    batch = TextBatch.from_arrow(pa.array([CHINESE]))
    columns = {"lang": pa.nulls(1, pa.string()), "url": pa.nulls(1, pa.string())}
    view = View(batch, columns, segmenters=Segmenters({"zh": "jieba"}))
    before = len(view.words.token_hash)
    later = view.after(None, {"lang": pa.array(["zh_Hans"])})
    assert len(later.words.token_hash) < before == len(view.features.token_hash)
    assert later.rows(np.array([0])).words.token_hash.tolist() == later.words.token_hash.tolist()


def test_words_of_the_rules_do_not_depend_on_how_documents_are_cut_into_batches() -> None:
    installed("jieba")
    config = CurationConfig.model_validate(
        {"stages": ["gopher_quality", "gopher_repetition", "fineweb"], "words": {"segmenters": {"zh": "jieba"}}}
    )
    texts, langs = [CHINESE, "A dog.", CHINESE * 3, ""], ["zh", "en", "zh", "zh"]
    tagger = Tagger(config)

    def tag(rows: slice) -> list[Any]:
        docs = pa.table({"doc_key": range(len(texts[rows])), "text": texts[rows], "lang": langs[rows]})
        return tagger.tag(docs).select(["gopher_quality", "gopher_repetition", "fineweb"]).to_pylist()

    whole = tag(slice(None))
    assert [row for i in range(4) for row in tag(slice(i, i + 1))] == whole
    assert whole[0]["gopher_quality"]["word_count"] == 9
    assert whole[0]["gopher_quality"]["mean_word_length"] == pytest.approx((4 + 1 + 1 + 2 + 1 + 2 + 5 + 5 + 4) / 9)


def test_another_segmenter_is_another_tagging_and_none_changes_nothing() -> None:
    def settings(**words: Any) -> dict[str, Any]:
        return CurationConfig.model_validate({"stages": ["gopher_quality"], **words}).tagging_settings()

    assert "words" not in settings()
    found = settings(words={"segmenters": {"zh": "jieba"}})
    assert found["words"] == {"zh": "jieba"} and set(found["packages"]) == {"jieba"}


def test_published_stop_words_stand_alone_where_a_segmenter_finds_them() -> None:
    values = {"preset": "fineweb2", "words": {"segmenters": {"th": "pythainlp"}}}
    words = CurationConfig.model_validate(values).gopher_quality.stop_words
    assert words["tha_Thai"] == ("ใน", "ที่", "และ", "ของ", "เป็น", "มี", "การ", "ได้")
    assert words["cmn_Hani"] == fineweb2()["gopher_quality"]["stop_words"]["cmn_Hani"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"words": {"segmenters": {"zh": "mecab"}}}, "'jieba', 'sudachi' or 'pythainlp'"),
        ({"words": {"segmenters": {"Klingonese": "jieba"}}}, "'Klingonese' is no language that raypt knows"),
        ({"words": {"segmenters": {"zh": "jieba", "zho": "jieba"}}}, "zh and zho are the same language"),
        (
            {"words": {"segmenters": {"zh": "jieba"}}, "stages": ["gopher_repetition", "language"]},
            "gopher_repetition comes before language, so no document has the words of its language's segmenter",
        ),
    ],
)
def test_segmenters_that_cannot_be_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CurationConfig.model_validate(values)
