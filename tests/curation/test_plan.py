"""Turns of stages: further ones under labels, with settings of their own, on the documents that meet a condition."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from raypt.config_io import validate
from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.ledger import curation_ledger
from raypt.curation.tagger import Tagger
from raypt.errors import UserError
from raypt.run.config import RunConfig
from tests.curation.helpers import table
from tests.curation.strategies import BATCH

PROSE = "The cat sat on the mat and the dog ran off. It was a good cat that they had. It slept with them. "
MENU = "Home\nAbout\nContact\n"


def tagged(curation: dict[str, Any], docs: pa.Table) -> tuple[CurationConfig, pa.Table, list[str | None]]:
    config = CurationConfig.model_validate(curation)
    out = Tagger(config).tag(docs)
    reasons = decide(out, config)
    curation_ledger(out, reasons, config)
    return config, out, reasons.to_pylist()


def test_a_second_turn_has_its_own_settings_attributes_and_reasons() -> None:
    stages = ["length", "c4", {"stage": "length@after", "settings": {"lines_min": 2}}]
    _, out, reasons = tagged({"stages": stages, "c4": {"sentence_count_min": None}}, table([f"{PROSE}\n{MENU}"]))
    assert out["length"][0].as_py()["lines"] == 4
    assert out["length@after"][0].as_py()["lines"] == 1
    assert reasons == ["length@after.lines_min"]


def test_an_editing_stage_edits_only_documents_that_meet_its_condition() -> None:
    stages = ["length", {"stage": "c4", "when": {"length.lines": {"min": 3}}, "settings": {"sentence_count_min": None}}]
    texts = [f"{PROSE}\n{MENU}", f"{PROSE}\nHome", f"{MENU}{PROSE}"]
    _, out, reasons = tagged({"stages": stages}, table(texts))
    assert out["text"].to_pylist() == [PROSE.strip(), texts[1], PROSE.strip()]
    assert out["c4"].to_pylist()[1] is None
    assert reasons == [None] * 3


def test_the_stage_url_leaves_the_documents_their_addresses() -> None:
    urls = ["https://a.org/1", "https://bad.com/2", None]
    docs = table([PROSE] * 3, url=pa.array(urls))
    stages = ["url", {"stage": "length", "when": {"url_metrics.blocked_domain": {"max": 0}}}]
    curation = {"stages": stages, "url": {"domains": ["bad.com"]}, "length": {"chars_max": 1}}
    _, out, reasons = tagged(curation, docs)
    assert out["url"].to_pylist() == urls
    assert reasons == ["length.chars_max", "url.blocked_domain_max", None]


def test_heuristics_on_low_scores_only() -> None:
    docs = table(["short", "short", "short"], score=pa.array([0.9, 0.1, None]))
    stages = [{"stage": "gopher_quality", "when": {"score": {"max": 0.5}}}]
    assert tagged({"stages": stages}, docs)[2] == [None, "gopher_quality.word_count_min", None]


def test_a_condition_on_words_and_on_several_columns() -> None:
    docs = table(["short"] * 4, score=pa.array(["0.1", "0.1", "0.9", "0.1"]))
    docs = docs.set_column(2, "lang", pa.array(["en", "zh", "en", None]))
    stages = [{"stage": "gopher_quality", "when": {"lang": ["en", "de"], "score": {"max": 0.5}}}]
    assert [r is not None for r in tagged({"stages": stages}, docs)[2]] == [True, False, False, False]


def test_language_under_a_condition_leaves_the_others_as_they_were() -> None:
    docs = table(["我们在北京的大学里学习中文。"] * 2, lang="en", score=pa.array([1.0, 0.0]))
    stages = [{"stage": "language", "when": {"score": {"min": 0.5}}}]
    assert tagged({"stages": stages}, docs)[1]["lang"].to_pylist() == ["zh", "en"]


@given(BATCH)
@settings(max_examples=40, deadline=None)
def test_a_condition_that_all_meet_changes_nothing(texts: list[str]) -> None:
    names = ("length", "repeated_phrases", "c4", "gopher_quality", "pii")
    always = [{"stage": name, "when": {"doc_key": {"min": 0}}} for name in names]
    _, plain, without = tagged({"stages": names}, table(texts))
    _, conditional, reasons = tagged({"stages": always}, table(texts))
    assert reasons == without
    assert conditional.to_pylist() == plain.to_pylist()


@given(BATCH)
@settings(max_examples=40, deadline=None)
def test_a_condition_that_none_meets_is_a_stage_that_is_off(texts: list[str]) -> None:
    names = ("length", "repeated_phrases", "c4", "gopher_quality", "pii")
    never = [{"stage": name, "when": {"doc_key": {"max": -1}}} for name in names]
    _, out, reasons = tagged({"stages": never}, table(texts))
    assert reasons == [None] * len(texts)
    assert out["text"].to_pylist() == texts


def test_a_condition_on_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"length works where scor has a certain value, but no column has this name"):
        tagged({"stages": [{"stage": "length", "when": {"scor": {"min": 1}}}]}, table(["x"], score=pa.array([1.0])))


@pytest.mark.parametrize("curation", [{"stages": ("pii", "pii@2")}, {"stages": ("c4", "c4")}])
def test_what_cannot_run_twice_is_named(curation: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="more than once"):
        CurationConfig.model_validate(curation)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("quality@late", "quality@late: a stage that can only run once has no label"),
        ({"stage": "quality", "settings": {"label": "hq"}}, "give its settings in curation.quality"),
    ],
)
def test_what_a_run_prepares_for_a_stage_is_not_asked_for_where_it_is_not_looked_for(entry: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CurationConfig.model_validate({"stages": ["language", entry]})


def test_a_stage_with_a_condition_is_among_those_that_run() -> None:
    config = CurationConfig.model_validate({"stages": ["language", {"stage": "quality", "when": {"lang": "en"}}]})
    assert config.runs("quality")
    assert not config.runs("perplexity")


SOURCE = {"name": "s", "paths": "x.jsonl", "columns": {"edu_score": "meta.score"}}


@pytest.mark.parametrize(
    ("curation", "message"),
    [
        ({"columns": {"edu_scor": {"min": 3}}}, "columns asks for the column edu_scor, which no source carries"),
        ({"stages": [{"stage": "length", "when": {"edu": {"min": 1}}}]}, "length asks for the column edu, which no"),
        ({"stages": ["gopher_quality"]}, "stop_word_count_min asks for the language of a document"),
        ({"stages": ["bad_words"], "bad_words": {"lists": {"en": "x"}}}, "bad_words.lists asks for the language"),
        ({"stages": ["keywords"], "keywords": {"rules": {"a": {"languages": ["en"]}}}}, "keywords.rules.a asks for"),
        ({"stages": ["perplexity"], "perplexity": {"models": {"en": "x.arpa"}}}, "perplexity.models asks for the lang"),
        ({"stages": ["length"], "by_language": {"de": {"length": {"chars_min": 9}}}}, "by_language.de.length asks for"),
        ({"stages": [{"stage": "length", "when": {"lang": "en"}}]}, "length asks for the language of a document"),
        (
            {
                "stages": ["classify"],
                "classify": {
                    "models": {"a": {"model": "x.bin"}},
                    "decisions": {"a_score": {"percentile": 9, "within": ["lang"]}},
                },
            },
            "classify asks for the language of a document",
        ),
        ({"stages": ["language"], "language": {"trust_column": True}}, "language asks for the column lang, which no"),
    ],
)
def test_a_rule_that_would_be_off_for_want_of_a_column_is_refused_at_start(
    curation: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        validate(RunConfig, {"corpus": {"sources": [SOURCE]}, "curation": curation})


@pytest.mark.parametrize("models", [{"models": {"en": "x.arpa"}}, {"reference": [{"paths": "good.jsonl"}]}])
def test_perplexity_before_language_is_refused(models: dict[str, Any]) -> None:
    key = next(iter(models))
    with pytest.raises(UserError, match=rf"so perplexity\.{key} would never apply; put language before it"):
        validate(RunConfig, {"curation": {"stages": ["perplexity", "language"], "perplexity": models}})
    validate(RunConfig, {"curation": {"stages": ["language", "perplexity"], "perplexity": models}})


def test_the_language_that_the_input_names_is_one() -> None:
    source = {"name": "s", "paths": "x.jsonl", "columns": {"lang": "language"}}
    for curation in (
        {"stages": ["gopher_quality"], "by_language": {"de": {"gopher_quality": {"word_count_min": 9}}}},
        {"stages": [{"stage": "length", "when": {"lang": "en"}}]},
        {"stages": ["language"], "language": {"trust_column": True}},
    ):
        validate(RunConfig, {"corpus": {"sources": [source]}, "curation": curation})


def test_columns_that_sources_carry_can_be_bounded() -> None:
    for curation in (
        {"columns": {"edu_score": {"min": 3}}},
        {"stages": ["gopher_quality"], "language": {"assume": "en"}},
    ):
        validate(RunConfig, {"corpus": {"sources": [SOURCE]}, "curation": curation})


def test_a_rule_counts_the_documents_that_have_what_it_looks_at() -> None:
    stages = {"stages": ["gopher_quality"], "columns": {"edu_score": {"min": 3}}}
    config = CurationConfig.model_validate(stages)
    text = "the cat and the dog sat with a bird that have to be of one mind"
    scores = pa.array([None, float("nan"), None], pa.float64())
    tagged = Tagger(config).tag(table([text] * 3, lang="am", edu_score=scores))
    measured = {rule: n for stage in config.plan() for rule, n in stage.measured(tagged).items()}
    assert measured["columns.edu_score_min"] == 0
    assert measured["gopher_quality.word_count_min"] == 3
    assert measured["gopher_quality.stop_word_count_min"] == 0, "there is no list for Amharic"
