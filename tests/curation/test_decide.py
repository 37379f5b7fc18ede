"""Decisions from attributes: order, thresholds without tagging again, thresholds by language."""

import pyarrow as pa
import pytest

from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.quality.threshold import QualityThreshold
from raypt.curation.tagger import Tagger
from tests.curation.helpers import config, table


def test_the_first_failing_rule_in_the_configured_order_is_the_reason() -> None:
    texts = ["# " * 10]
    for stages in (("gopher_quality", "gopher_repetition"), ("gopher_repetition", "gopher_quality")):
        settings = CurationConfig(stages=stages)
        (reason,) = decide(Tagger(settings).tag(table(texts)), settings).to_pylist()
        assert reason.split(".")[0] == stages[0]


def test_thresholds_change_without_tagging_again() -> None:
    tagged = Tagger(config("gopher_quality")).tag(table(["the and " * n for n in (3, 10, 30)]))
    kept = [
        decide(tagged.drop_columns("text"), config("gopher_quality", word_count_min=least)).null_count
        for least in (None, 6, 7, 50, 61)
    ]
    assert kept == [3, 3, 2, 1, 0]


def test_a_language_has_thresholds_of_its_own() -> None:
    zh, de = {"gopher_quality": {"word_count_min": 5}}, {"gopher_quality": {"word_count_min": None}}
    settings = CurationConfig(stages=("gopher_quality",), by_language={"zh": zh, "de": de})
    docs = table(["the and " * 4] * 3).set_column(2, "lang", pa.array(["en", "zh", "de"]))
    tagged = Tagger(settings).tag(docs)
    only_length = [r == "gopher_quality.word_count_min" for r in decide(tagged, settings).to_pylist()]
    assert only_length == [True, False, False]


def test_the_language_stage_names_its_two_reasons() -> None:
    settings = config("language", keep=("en",), score_min=0.5, score_min_by_language={"fr": None})
    tagged = pa.table({"lang": ["en", "en", "fr", None], "lang_score": pa.array([0.9, 0.1, 0.1, 0.0], pa.float32())})
    assert decide(tagged, settings).to_pylist() == [None, "language.score_min", "language.keep", "language.keep"]


def test_the_quality_stage_asks_the_threshold() -> None:
    tagged = pa.table({"doc_key": [0, 1], "quality_score": pa.array([0.2, 0.3], pa.float32())})
    settings = CurationConfig(stages=("quality",))
    assert decide(tagged, settings, {"quality": QualityThreshold(minimum=0.25)}).to_pylist() == ["quality.score", None]
    assert decide(tagged, settings, None).to_pylist() == [None, None]


def test_attributes_that_are_missing_are_named() -> None:
    with pytest.raises(ValueError, match=r"c4 is on.*tag them again"):
        decide(table(["x"]), config("c4"))


def test_no_documents_give_no_decisions() -> None:
    settings = config("gopher_quality")
    assert decide(Tagger(settings).tag(table([])), settings).to_pylist() == []
