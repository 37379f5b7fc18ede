"""The configuration of curation: presets under the user's values, and mistakes named."""

import pytest
from pydantic import ValidationError

from raypt.curation.config import CurationConfig
from raypt.curation.presets import BY_LANGUAGE, PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_valid_configuration(name: str) -> None:
    config = CurationConfig.model_validate({"preset": name})
    assert config.stages == PRESETS[name].get("stages", CurationConfig().stages)


def test_a_value_beside_a_preset_wins_over_it() -> None:
    config = CurationConfig.model_validate({"preset": "c4", "c4": {"sentence_count_min": 2}})
    assert config.c4.sentence_count_min == 2
    assert config.c4.line_word_count_min == 5


def test_a_resolved_configuration_reads_back_as_itself() -> None:
    config = CurationConfig.model_validate({"preset": "c4", "c4": {"sentence_count_min": None}})
    assert CurationConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"preset": "gofer"}, "there is no 'gofer'"),
        ({"stages": ("c4", "c4")}, "more than once"),
        ({"stages": ("c5",)}, "stages"),
        ({"by_language": {"zh": {"c5": {"x_min": 1}}}}, "by_language.zh.c5"),
        ({"by_language": {"zh": {"c4": {"sentence_min": 1}}}}, "by_language.zh.c4.sentence_min"),
        ({"by_language": {"zh": {"c4": {"line_word_count_min": 1}}}}, "by_language.zh.c4.line_word_count_min"),
        ({"gopher_quality": {"word_count": 1}}, "word_count"),
    ],
)
def test_mistakes_are_named(values: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CurationConfig.model_validate(values)


def test_thresholds_by_language_add_to_the_built_in_ones() -> None:
    config = CurationConfig.model_validate({"by_language": {"zh": {"fineweb": {"short_line_fraction_max": 0.8}}}})
    assert config.by_language["zh"]["fineweb"]["short_line_fraction_max"] == 0.8
    assert config.by_language["zh"]["fineweb"]["duplicate_line_char_fraction_max"] == 0.1
    assert config.by_language["ja"] == CurationConfig().by_language["ja"]


@pytest.mark.parametrize("language", BY_LANGUAGE)
def test_thresholds_of_unspaced_languages_are_never_stricter_than_the_english_ones(language: str) -> None:
    config = CurationConfig()
    for stage, values in config.by_language[language].items():
        bounds = {bound.key: bound for bound in getattr(config, stage).bounds()}
        for key, value in values.items():
            english = bounds[key].threshold
            assert value is None or (value <= english if bounds[key].is_minimum else value >= english)
