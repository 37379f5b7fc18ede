"""Languages by any name: what codes, labels and names mean, and that lists and thresholds are found by it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raypt.curation import languages
from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.language import LanguageConfig, identify, known_codes, rejections
from raypt.curation.presets import BY_LANGUAGE
from raypt.curation.quality.fit import fit
from raypt.curation.stopwords import STOP_WORDS, StopWordTable, stop_words
from raypt.curation.tagger import Tagger
from raypt.text.buffers import TextBatch

LID176 = known_codes(LanguageConfig())


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("en", "eng_Latn"),
        ("eng_Latn", "eng_Latn"),
        ("__label__eng_Latn", "eng_Latn"),
        ("English", "eng_Latn"),
        ("en-US", "eng_Latn_us"),
        ("English (US)", "eng_Latn"),
        ("zh", "cmn_Hani"),
        ("zho_Hani", "cmn_Hani"),
        ("cmn_Hani", "cmn_Hani"),
        ("zh-CN", "cmn_Hans"),
        ("zh-Hant", "cmn_Hant"),
        ("zho_Hant", "cmn_Hant"),
        ("Simplified Chinese", "cmn_Hans"),
        ("zh-yue", "yue_Hani"),
        ("ja", "jpn_Jpan"),
        ("ko", "kor_Hang"),
        ("kor_Kore", "kor_Hang"),
        ("no", "nob_Latn"),
        ("nb", "nob_Latn"),
        ("nn", "nno_Latn"),
        ("ar", "arb_Arab"),
        ("sr", "srp_Cyrl_Latn"),
        ("srp_Latn", "srp_Latn"),
        ("als", "gsw_Latn"),  # Wikipedia's Alemannic, and so lid.176's
        ("als_Latn", "als_Latn"),  # GlotLID's Tosk Albanian
        ("sq", "als_Latn"),
        ("fas_Arab", "pes_Arab"),
        ("mhr", "mhr_Cyrl"),
        ("xyz_Latn", "xyz_Latn"),
    ],
)
def test_a_name_has_one_meaning(name: str, code: str) -> None:
    found = languages.read(name)
    assert found is not None
    assert str(found) == code


@pytest.mark.parametrize("name", ["", "englisch", "e", "tokens!", "quality good"])
def test_what_is_no_name_has_none(name: str) -> None:
    assert languages.read(name) is None


def test_every_label_of_the_model_has_a_meaning_of_its_own() -> None:
    meanings = [languages.read(label) for label in LID176]
    assert all(m is not None and m.scripts for m in meanings)
    assert len(set(meanings)) == len(LID176)


def test_a_key_covers_labels_that_say_no_less() -> None:
    assert languages.covers("zh", "cmn_Hani")
    assert languages.covers("zh", "zho_Hant")
    assert not languages.covers("zh-CN", "zh")
    assert not languages.covers("hi", "hin_Latn")
    assert languages.covers("de", "de-CH")
    assert not languages.covers("de-CH", "de")
    assert languages.covers("sr", "srp_Latn")
    assert not languages.covers("zh", "yue_Hani")
    assert languages.match("cmn_Hans", ["zh", "zh-CN"]) == "zh-CN"
    assert languages.match("cmn_Hant", ["zh", "zh-CN"]) == "zh"
    assert languages.match("fr", ["zh", "en"]) is None
    assert languages.match("code", ["code", "en"]) == "code"  # a model's own label, which is no language


@pytest.mark.parametrize("name", sorted(STOP_WORDS))
def test_no_stop_words_are_lost_under_another_models_labels(name: str) -> None:
    language = languages.read(name)
    assert language is not None
    labels = [f"{language.code}_{script}" for script in language.scripts]
    index = StopWordTable.build(stop_words({})).index([name, *labels])
    assert index.min() == index.max() >= 0


def test_a_list_of_the_users_replaces_the_built_in_one_under_any_code() -> None:
    assert stop_words({"cmn_Hani": ("甲",)})["cmn_Hani"] == ("甲",)
    assert "zh" not in stop_words({"cmn_Hani": ("甲",)})
    assert StopWordTable.build(stop_words({"eng": ()})).index(["en"]).tolist() == [-1]


ENGLISH = "The river rose again this year, and the people of the town had to leave their houses for a week."
CHINESE = "这条河今年又涨了，镇上的人们不得不离开自己的家一个星期。孩子们在山上的学校里过夜，大人们守在河边。"


def glotlid(folder: Path) -> str:
    """A model of three languages with GlotLID's labels."""
    lines = [
        ("eng_Latn", ENGLISH),
        ("cmn_Hani", CHINESE),
        ("deu_Latn", "Der Fluss ist wieder gestiegen und alle mussten gehen"),
    ]
    train = folder / "train.txt"
    train.write_text("".join(f"__label__{label} {text}\n" for label, text in lines * 40))
    path = folder / "glot.bin"
    fit(str(train), str(path), dim=8, minn=1, maxn=3, epoch=30, lr=0.5)
    return str(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return glotlid(tmp_path_factory.mktemp("glot"))


def test_keep_and_thresholds_work_under_the_labels_of_another_model(model: str) -> None:
    config = LanguageConfig.model_validate(
        {"model": model, "keep": ["en", "Chinese"], "score_min": None, "score_min_by_language": {"zh": 1.0}}
    )
    lang, score = identify(TextBatch.from_arrow(pa.array([ENGLISH, CHINESE, "Der Fluss ist wieder gestiegen"])), config)
    assert lang.to_pylist() == ["eng_Latn", "cmn_Hani", "deu_Latn"]
    fails = rejections(lang, np.minimum(score, np.float32(0.99)), config)
    assert fails["keep"].tolist() == [False, False, True]
    assert fails["score_min"].tolist() == [False, True, False]


def test_rules_by_language_apply_under_the_labels_of_another_model(model: str, tmp_path: Path) -> None:
    """Stop words, thresholds and bad words that are named by two-letter codes, on GlotLID's labels."""
    (tmp_path / "zh.txt").write_text("河边\n")
    values = {
        "stages": ["language", "gopher_quality", "bad_words"],
        "bad_words": {"lists": {"zh": str(tmp_path / "zh.txt")}},
        "gopher_quality": {"word_count_min": 5, "stop_word_count_min": 2},
    }
    docs = pa.table({"doc_key": range(3), "text": [ENGLISH, CHINESE, " ".join(["river"] * 20)]})
    found = []
    for given in (None, model):
        config = CurationConfig.model_validate({**values, "language": {"model": given, "score_min": None}})
        tagged = Tagger(config).tag(docs)
        found.append(decide(tagged, config).to_pylist())
        assert tagged["gopher_quality"].combine_chunks().field("stop_word_count").null_count == 0
    assert found[0] == found[1]
    assert found[1] == [None, "bad_words.match_count_max", "gopher_quality.stop_word_count_min"]


def test_thresholds_of_a_language_are_those_of_all_its_names() -> None:
    given = {"by_language": {"cmn_Hani": {"gopher_quality": {"word_count_min": 7}}}}
    config = CurationConfig.model_validate(given)
    assert config.by_language["zh"]["gopher_quality"]["word_count_min"] == 7
    assert config.by_language["zh"]["fineweb"] == BY_LANGUAGE["zh"]["fineweb"]
    with pytest.raises(ValueError, match="zh and cmn_Hani are the same language"):
        CurationConfig.model_validate({"by_language": {"zh": {}, "cmn_Hani": {}}})


def test_a_data_sets_own_language_is_believed_where_the_model_knows_it() -> None:
    own = pa.array(["English", "zh-Hans", "klingon!", None, "de-CH"])
    text = pa.array(["42", CHINESE, ENGLISH, ENGLISH, ENGLISH])
    config = LanguageConfig.model_validate({"trust_column": True})
    lang, score = identify(TextBatch.from_arrow(text), config, own)
    assert lang.to_pylist() == ["en", "zh", "en", "en", "de"]
    assert score[[0, 4]].tolist() == [1.0, 1.0]
    assert score[2] == score[3] < 1


@pytest.mark.parametrize(
    ("name", "near"), [("englsh", "en"), ("zh-CN", "zh"), ("portugese", "pt"), ("hin_Latn", "hi"), ("zz", None)]
)
def test_the_nearest_label_is_named(name: str, near: str | None) -> None:
    assert languages.nearest(name, LID176) == near
