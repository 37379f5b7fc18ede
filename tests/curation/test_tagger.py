"""The tagger adds what its stages measure, keeps every row and every other column, and is a pure function."""

import pyarrow as pa
import pytest

from raypt.curation import tagger as tagger_module
from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.language import BUILTIN_MODEL
from raypt.curation.ledger import curation_ledger
from raypt.curation.quality.config import QualityConfig
from raypt.curation.quality.model import QualityModel
from raypt.curation.tagger import Tagger
from tests.curation.helpers import table

ALL = CurationConfig(stages=("language", "gopher_repetition", "gopher_quality", "c4"))
TEXTS = [
    "The cat sat on the mat. " * 9,
    "",
    "我们在北京的大学里学习中文。" * 9,
    "x",
    "Der Hund und die Katze sind hier. " * 9,
]


def test_rows_order_and_other_columns_are_kept() -> None:
    docs = table(TEXTS, source=["a", "b", "c", "d", "e"], subset=pa.array([None] * 5, pa.string()))
    out = Tagger(ALL).tag(docs)
    for name in ("doc_key", "source", "subset"):
        assert out.column(name).equals(docs.column(name))


def test_the_language_found_replaces_one_that_was_given() -> None:
    out = Tagger(ALL).tag(table(TEXTS, lang="xx"))
    assert out.column("lang").to_pylist()[::2] == ["en", "zh", "de"]
    assert out.column_names.count("lang") == 1


def test_without_the_language_stage_the_given_or_the_assumed_language_is_used() -> None:
    config = CurationConfig.model_validate({"stages": ("gopher_quality",), "language": {"assume": "de"}})
    docs = table(["der die und"])
    assert Tagger(config).tag(docs).column("lang").to_pylist() == ["en"]
    assumed = Tagger(config).tag(docs.drop_columns("lang"))
    assert assumed.column("lang").to_pylist() == ["de"]
    assert assumed.column("gopher_quality").to_pylist()[0]["stop_word_count"] == 3


def test_a_stage_that_is_off_leaves_no_column_and_no_edit() -> None:
    out = Tagger(CurationConfig(stages=("gopher_quality",))).tag(table(["a\nb"]))
    assert out.column("text").to_pylist() == ["a\nb"]
    assert not {"c4", "gopher_repetition", "pii_spans", "quality_score"} & set(out.column_names)


def test_the_result_does_not_depend_on_how_the_table_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    docs = table(TEXTS * 5)
    whole = Tagger(ALL).tag(docs)
    chunked = pa.concat_tables([docs.slice(0, 7), docs.slice(7)])
    monkeypatch.setattr(tagger_module, "SLICE_BYTES", 300)
    assert Tagger(ALL).tag(chunked).combine_chunks().equals(whole.combine_chunks())


def test_schema_does_not_depend_on_the_documents() -> None:
    schemas = {str(Tagger(ALL).tag(table(texts)).schema) for texts in ([], [""], TEXTS, ["我们"], [None])}
    assert len(schemas) == 1


def test_metrics_of_gopher_are_those_of_the_text_before_line_removal() -> None:
    text = "the and of\n" * 5 + "x\n" * 45
    out = Tagger(ALL).tag(table([text]))
    assert out.column("gopher_quality").to_pylist()[0]["word_count"] == 60
    assert "x" not in out.column("text").to_pylist()[0]


def test_english_defaults_keep_chinese_japanese_and_thai_prose() -> None:
    zh = "我们在北京的大学里学习中文，每天都有课程。老师说学生应该多读书，也要多写字。图书馆里有上万本书。\n"
    zh += "周末的时候，大家会去公园散步或者打球。晚上他在家里做饭，然后看电视。你觉得这种生活怎么样？很不错吧！"
    ja = "私は毎日大学で日本語を勉強しています。先生はとても親切です。図書館には本がたくさんあります。\n"
    ja += "週末には友達と公園を散歩します。夜は家で料理を作って、それからテレビを見ます。とても楽しいですよ。"
    th = "ผมเรียนภาษาไทยที่มหาวิทยาลัยในกรุงเทพ ครูใจดีมากและสอนสนุก ห้องสมุดมีหนังสือหลายเล่ม\n"
    th += "วันหยุดพวกเราไปเดินเล่นในสวนสาธารณะ ตอนเย็นเขาทำอาหารที่บ้าน แล้วก็ดูโทรทัศน์กับครอบครัว"
    out = Tagger(ALL).tag(table([zh, ja, th]))
    assert out.column("lang").to_pylist() == ["zh", "ja", "th"]
    assert decide(out, ALL).to_pylist() == [None, None, None]
    assert out.column("text").to_pylist() == [zh, ja, th]


LETTER = "Please write to Jane at jane.doe@example.org about the house. She has the key and will be there on Monday.\n"


def test_personal_data_is_masked_in_the_text_that_the_line_rules_left() -> None:
    config = CurationConfig.model_validate({"stages": ("c4", "pii"), "pii": {"kinds": ("email",)}})
    out = Tagger(config).tag(table([f"{LETTER}a@b.example\n{LETTER}", LETTER]))
    masked = LETTER.strip().replace("jane.doe@example.org", "<EMAIL>")
    assert out.column("text").to_pylist() == [f"{masked}\n{masked}", masked]
    assert [len(spans) for spans in out.column("pii_spans").to_pylist()] == [2, 1]
    reasons = pa.nulls(2, pa.string())
    edited = curation_ledger(out, reasons, config).stages["pii"].edited["pii.mask"]
    assert (edited.documents, edited.bytes) == (2, 3 * (len("jane.doe@example.org") - len("<EMAIL>")))


def test_without_kinds_or_without_the_stage_nothing_is_masked() -> None:
    for values in ({"stages": ("pii",), "pii": {"kinds": ()}}, {"stages": ("length",)}):
        out = Tagger(CurationConfig.model_validate(values)).tag(table([LETTER]))
        assert out.column("text").to_pylist() == [LETTER]
        assert "pii_spans" not in out.column_names


def test_a_fasttext_file_can_be_plugged_in_as_the_quality_classifier() -> None:
    quality = QualityConfig.model_validate(
        {"model": str(BUILTIN_MODEL), "label": "en", "normalisation": "plain", "threshold": {"minimum": 0.5}}
    )
    config = CurationConfig(stages=("quality",), quality=quality)
    model = QualityModel.load(str(BUILTIN_MODEL), quality)
    out = Tagger(config).tag(table([LETTER, TEXTS[2]]))
    assert decide(out, config, {"quality": model.threshold(quality.threshold)}).to_pylist() == [None, "quality.score"]


def test_without_a_model_the_quality_stage_scores_nothing_and_keeps_all() -> None:
    config = CurationConfig(stages=("quality",))
    out = Tagger(config).tag(table(TEXTS))
    assert "quality_score" not in out.column_names
    assert decide(out, config).null_count == len(TEXTS)
