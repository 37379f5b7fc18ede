"""FineWeb-2's thresholds: as its files have them, and applied under any label of the language."""

import numpy as np
import pyarrow as pa
import pytest

from raypt.curation import languages
from raypt.curation.config import CurationConfig
from raypt.curation.fineweb2 import fineweb2
from raypt.curation.presets import BY_LANGUAGE
from raypt.curation.rules.gopher_repetition import GopherRepetition
from raypt.curation.stopwords import STOP_WORDS


def test_numbers_are_those_of_the_published_files() -> None:
    """configs/jpn_Jpan.yml and mar_Deva.yml at d331bee, cmn_Hani.yml, deu_Latn.yml and als_Latn.yml at 05e6729."""
    values = fineweb2()
    scores = values["language"]["score_min_by_language"]
    assert (scores["jpn_Jpan"], scores["cmn_Hani"], scores["deu_Latn"]) == (0.886, 0.692, 0.821)
    japanese = values["by_language"]["jpn_Jpan"]
    assert [japanese["gopher_repetition"][f"duplicate_{n}_gram_char_fraction_max"] for n in range(5, 11)] == [
        0.243, 0.225, 0.207, 0.19, 0.175, 0.159,
    ]  # fmt: skip
    assert japanese["gopher_repetition"]["duplicate_line_fraction_max"] == 0.328
    assert japanese["fineweb"] == {"ended_line_fraction_min": 0.096, "newline_to_word_ratio_max": 0.13}
    german = values["by_language"]["deu_Latn"]["gopher_quality"]
    assert german == {"mean_word_length_min": 0, "mean_word_length_max": 15, "alpha_word_fraction_min": 0.774}
    assert values["gopher_quality"]["stop_words"]["deu_Latn"][:3] == ("der", "und", "die")
    assert values["by_language"]["mar_Deva"]["fineweb"] == {
        "ended_line_fraction_min": 0.008, "newline_to_word_ratio_max": 0.351,
    }  # fmt: skip
    assert values["gopher_quality"]["stop_words"]["als_Latn"][:4] == ("të", "e", "në", "dhe")


def test_each_language_is_complete_and_known() -> None:
    values = fineweb2()
    assert len(values["by_language"]) == 53
    assert languages.twice(values["by_language"]) is None
    for label, stages in values["by_language"].items():
        assert str(languages.read(label)).replace("pes", "fas") == label
        repetition = stages["gopher_repetition"]
        duplicates = [repetition[f"duplicate_{n}_gram_char_fraction_max"] for n in range(5, 11)]
        assert duplicates == sorted(duplicates, reverse=True)
        assert 0 < values["language"]["score_min_by_language"][label] <= 0.9
        assert len(values["gopher_quality"]["stop_words"][label]) >= 8


@pytest.mark.parametrize(("built_in", "label"), [("zh", "cmn_Hani"), ("ja", "jpn_Jpan"), ("th", "tha_Thai")])
def test_what_other_presets_take_for_a_language_is_no_other_version(built_in: str, label: str) -> None:
    ours, theirs = BY_LANGUAGE[built_in]["gopher_repetition"], fineweb2()["by_language"][label]["gopher_repetition"]
    assert {key: theirs[key] for key in ours} == ours


def test_stop_words_of_unspaced_scripts_are_single_characters() -> None:
    words = fineweb2()["gopher_quality"]["stop_words"]
    assert all(len(word) == 1 for label in ("cmn_Hani", "yue_Hani", "jpn_Jpan") for word in words[label])
    assert set(STOP_WORDS["th"]) <= set(words["tha_Thai"])


@pytest.mark.parametrize(("label", "bound"), [("de", 0.141), ("deu_Latn", 0.141), ("zh", 0.198), ("en", 0.15)])
def test_the_preset_judges_a_language_by_its_own_values(label: str, bound: float) -> None:
    config = CurationConfig.model_validate({"preset": "fineweb2"})
    (stage,) = [stage for stage in config.plan() if stage.name == "gopher_repetition"]
    metrics = GopherRepetition.metrics
    values = {m: np.array([0.0, 0.0]) for m in metrics}
    values["duplicate_5_gram_char_fraction"] = np.array([bound - 1e-6, bound + 1e-6])
    column = pa.StructArray.from_arrays([pa.array(v) for v in values.values()], names=list(values))
    tagged = pa.table({"lang": [label] * 2, "gopher_repetition": column})
    failed = {rule: fails.tolist() for rule, fails in stage.failures(tagged, {})}
    assert failed["gopher_repetition.duplicate_5_gram_char_fraction_max"] == [False, True]
