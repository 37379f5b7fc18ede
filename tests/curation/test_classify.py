"""The classify stage: fastText's own answers as columns, decisions on them, and what is refused at start."""

from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pytest

from raypt.curation import percentiles
from raypt.curation.base import Attributes
from raypt.curation.classify.config import Classify, Decision
from raypt.curation.classify.model import load_models
from raypt.curation.classify.percentiles import bins, settle
from raypt.curation.classify.prepare import check_settings, prepare
from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.deciding import label_counts
from raypt.curation.page import labels_section
from raypt.curation.quality.fit import fit
from raypt.curation.tagger import Tagger
from raypt.errors import UserError
from raypt.run_dir import RunDir
from tests.curation.helpers import table

pytestmark = pytest.mark.fast

TOPICS = {"science": "atom cell 光 star", "sport": "goal team ball 球", "law": "court judge appeal clause"}
TEXTS = ["atom star cell\nstar", "the team scored a goal", "court and judge", "光 atom goal", "", "zzz qqq"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of several kinds: `wide` adds up vectors and `narrow` logits; the others go through fastText itself."""
    where = tmp_path_factory.mktemp("classify")
    words = {topic: text.split() for topic, text in TOPICS.items()}
    lines = [
        f"__label__{topic} {' '.join(own[(i * k) % len(own)] for k in range(1, 6))}"
        for i in range(60)
        for topic, own in words.items()
    ]
    (where / "train.txt").write_text("\n".join(lines) + "\n")
    kinds: dict[str, dict[str, Any]] = {
        "narrow": {"dim": 8, "wordNgrams": 2, "bucket": 1000},
        "wide": {"dim": 2},
        "subwords": {"dim": 4, "minn": 2, "maxn": 3, "bucket": 1000},
        "sigmoids": {"dim": 4, "loss": "ova"},
    }
    for name, kind in kinds.items():
        fit(str(where / "train.txt"), str(where / f"{name}.bin"), **{"epoch": 5, "lr": 0.5, "minCount": 1, **kind})
    return {name: str(where / f"{name}.bin") for name in kinds}


def config(stage: dict[str, Any], **more: Any) -> CurationConfig:
    return CurationConfig.model_validate({"stages": ["classify"], "classify": stage, **more})


@pytest.mark.parametrize("kind", ["narrow", "wide", "subwords", "sigmoids"])
def test_probabilities_and_best_label_are_fasttexts_own(kind: str, models: dict[str, str]) -> None:
    tagged = Tagger(config({"models": {"topic": {"model": models[kind]}}})).tag(table([*TEXTS]))
    reference = fasttext.load_model(models[kind])
    for text, row in zip(TEXTS[:4], tagged["classify"].to_pylist()[:4], strict=True):
        found = {n: p for p, n in reference.f.predict(text.replace("\n", " ") + "\n", -1, 0.0, "strict")}
        for topic in TOPICS:  # single precision, summed in another order
            assert row[f"topic_{topic}"] == pytest.approx(min(found[f"__label__{topic}"], 1.0), abs=2e-5)
        assert row["topic_score"] == max(row[f"topic_{topic}"] for topic in TOPICS)
        assert row[f"topic_{row['topic']}"] == row["topic_score"]
    unknown = tagged["classify"].to_pylist()[4:] if kind != "subwords" else tagged["classify"].to_pylist()[4:5]
    assert all(value is None for row in unknown for value in row.values())


def test_answers_do_not_depend_on_how_documents_are_cut_into_batches(models: dict[str, str]) -> None:
    settings = config({"models": {"a": {"model": models["wide"]}, "b": {"model": models["narrow"]}}})
    tagger = Tagger(settings)
    whole = tagger.tag(table(TEXTS))["classify"].to_pylist()
    assert [tagger.tag(table([text]))["classify"].to_pylist()[0] for text in TEXTS] == whole


def test_ensembles_are_the_largest_and_the_mean_of_the_models_that_measure(models: dict[str, str]) -> None:
    of = {"a": "science", "b": "science"}
    both = {"a": {"model": models["narrow"]}, "b": {"model": models["subwords"]}}
    stage = {"models": both, "ensembles": {"top": {"of": of}, "middle": {"of": of, "how": "mean"}}}
    rows = Tagger(config(stage)).tag(table(TEXTS))["classify"].to_pylist()
    for row in rows[:4]:
        assert row["top"] == max(row["a_science"], row["b_science"])
        assert row["middle"] == pytest.approx((row["a_science"] + row["b_science"]) / 2)
    assert rows[4]["top"] is rows[4]["middle"] is None  # an empty text
    assert rows[5]["a_science"] is None and rows[5]["top"] == rows[5]["middle"] == rows[5]["b_science"]


def test_decisions_by_label_and_by_probability_keep_what_is_not_measured(models: dict[str, str]) -> None:
    stage = {"models": {"topic": {"model": models["narrow"]}}}
    tagged = Tagger(config(stage)).tag(table(TEXTS))

    def reasons(decisions: dict[str, Any]) -> list[str | None]:
        found: list[str | None] = decide(tagged, config({**stage, "decisions": decisions})).to_pylist()
        return found

    assert reasons({"topic": {"drop": ["sport"]}}) == [None, "classify.topic_drop", *[None] * 4]
    kept = reasons({"topic": {"keep": ["science"]}})
    assert kept == [None, "classify.topic_keep", "classify.topic_keep", None, None, None]
    p = [row["topic_science"] for row in tagged["classify"].to_pylist()]
    assert reasons({"topic_science": {"min": 0.5}}) == [
        "classify.topic_science_min" if v is not None and v < 0.5 else None for v in p
    ]


def test_metrics_are_conditions_and_bounds_of_other_stages(models: dict[str, str]) -> None:
    settings = CurationConfig.model_validate(
        {
            "stages": [
                "classify",
                {"stage": "length", "settings": {"chars_min": 10**6}, "when": {"classify.topic": "sport"}},
                "columns",
            ],
            "classify": {"models": {"topic": {"model": models["narrow"]}}},
            "columns": {"classify.topic_law": {"max": 0.5}},
        }
    )
    tagged = Tagger(settings).tag(table(TEXTS))
    assert decide(tagged, settings).to_pylist()[:3] == [None, "length.chars_min", "columns.classify.topic_law_max"]


def test_labels_are_counted_with_what_is_kept_of_them(models: dict[str, str]) -> None:
    settings = config({"models": {"topic": {"model": models["narrow"]}}, "decisions": {"topic": {"drop": ["sport"]}}})
    tagged = Tagger(settings).tag(table(TEXTS))
    counts = label_counts(tagged, decide(tagged, settings), settings)["classify.topic"]
    size = [len(text.encode()) for text in TEXTS]
    assert counts["sport"] == [1, size[1], 0, 0]
    assert counts["law"] == [1, size[2], 1, size[2]]
    assert counts[""] == [2, size[5], 2, size[5]]
    assert sum(n for n, _, _, _ in counts.values()) == len(TEXTS)


def scored(values: np.ndarray, **columns: Any) -> pa.Table:
    own = pa.StructArray.from_arrays([pa.array(values, pa.float32(), from_pandas=True)], names=["good"])
    return pa.table({"classify": own, **columns})


def test_a_percentile_is_that_of_each_group_and_of_the_run_for_small_ones() -> None:
    rng = np.random.default_rng(0)
    lang = np.array(["en"] * 1000 + ["zh"] * 1000 + ["yo"] * 10)
    values = np.concatenate([rng.uniform(0.9, 1, 1000), rng.uniform(0, 0.1, 1000), rng.uniform(0, 1, 10)])
    values[5] = np.nan
    decision = Decision(percentile=30, within=("lang",))
    order = rng.permutation(len(values))
    whole = scored(values[order], lang=pa.array(lang[order]))
    total: percentiles.Counts = {}
    for part in (whole.slice(1500), whole.slice(0, 700), whole.slice(700, 800)):
        percentiles.merge(total, percentiles.count(Attributes(part, "classify"), {"good": ("lang",)}, bins))
    settled = settle(total, {"good": decision})
    gone = settled.below("good", Attributes(scored(values, lang=pa.array(lang)), "classify"), ("lang",))
    for code in ("en", "zh"):
        own = values[lang == code]
        cut = np.nanpercentile(own, 30)
        assert gone[lang == code].mean() == pytest.approx(0.3, abs=0.003)  # a bin holds 1 or 2 of a thousand
        assert not gone[lang == code][own > cut + 1e-3].any()
    run = np.nanpercentile(values, 30)
    np.testing.assert_array_equal(gone[lang == "yo"], values[lang == "yo"] < run)
    assert not gone[5]


def test_bins_ascend_with_the_probability_and_are_finest_at_both_ends() -> None:
    values = np.array([0.0, 1e-7, 1e-6, 0.3, 0.499, 0.5, 0.501, 0.9, 0.99999, 0.999999, 1.0])
    assert (np.diff(bins(values)) > 0).all()
    assert bins(np.array([np.nan]))[0] == -1


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (
            {"decisions": {"topic_law": {"percentile": 5, "within": ["lang", "classify.topik"]}}},
            r"topic_law.within: there is no metric classify.topik; did you mean topic",
        ),
        (
            {"decisions": {"topic": {"drop": ["sports"]}}},
            r"decisions.topic.drop: .* no label 'sports'; did you mean sport",
        ),
        ({"decisions": {"topic_scence": {"min": 0.1}}}, r"decisions.topic_scence: no metric .* mean topic_science"),
        (
            {"ensembles": {"e": {"of": {"topic": "laws"}}}},
            r"ensembles.e.of.topic: .* no label 'laws'; did you mean law",
        ),
    ],
)
def test_labels_that_a_model_does_not_have_are_refused_with_the_nearest(
    stage: dict[str, Any], said: str, models: dict[str, str]
) -> None:
    settings = Classify.model_validate({"models": {"topic": {"model": models["narrow"]}}, **stage})
    with pytest.raises(UserError, match=said):
        check_settings(settings)


def test_names_that_cannot_be_are_refused_when_the_configuration_is_read() -> None:
    for stage, said in (
        ({"ensembles": {"e": {"of": {"topik": "a"}}}}, "topik: no model is named so; did you mean topic"),
        ({"ensembles": {"topic": {"of": {"topic": "a"}}}}, "names two metrics"),
        ({"decisions": {"topic": {"min": 1}}}, "bound topic_score"),
        ({"decisions": {"topic_a": {"drop": ["b"]}}}, "by the name of a model"),
        ({"decisions": {"topic": {"drop": ["b"], "min": 1}}}, "decide on two metrics"),
    ):
        with pytest.raises(ValueError, match=said):
            Classify.model_validate({"models": {"topic": {"model": "m.bin"}}, **stage})


def test_a_file_that_is_no_model_or_another_one_than_named_is_refused(models: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(b"no model")
    named = {"a": {"model": str(tmp_path / "m.bin")}, "b": {"model": models["wide"], "model_sha256": "0" * 64}}
    with pytest.raises(
        UserError, match=r"(?s)models.a.model: .* not a fastText model.*models.b.model: .* not the file"
    ):
        check_settings(Classify.model_validate({"models": named}))
    with pytest.raises(UserError, match=r"models.b.model: .* not the file that"):
        load_models(Classify.model_validate({"models": {"b": named["b"]}}), None)


def test_a_worker_refuses_other_bytes_than_the_run_started_with(models: dict[str, str], tmp_path: Path) -> None:
    copy = tmp_path / "m.bin"
    copy.write_bytes(Path(models["wide"]).read_bytes())
    settings = Classify.model_validate({"models": {"a": {"model": str(copy)}}})
    card, fingerprint = prepare(RunDir(str(tmp_path / "run")), "classify", settings, "sizes")
    assert set(load_models(settings, card)) == {"a"}
    copy.write_bytes(Path(models["narrow"]).read_bytes())
    with pytest.raises(UserError, match=r"models.a.model: .* not the file that this run started with"):
        load_models(settings, card)
    again, other = prepare(RunDir(str(tmp_path / "run")), "classify", settings, "sizes")
    assert other != fingerprint and set(load_models(settings, again)) == {"a"}


def test_a_further_turn_asks_its_own_models_of_the_documents_that_meet_its_condition(models: dict[str, str]) -> None:
    turn = {"stage": "classify@more", "settings": {"models": {"kind": {"model": models["subwords"]}}}}
    settings = CurationConfig.model_validate(
        {
            "stages": ["classify", {**turn, "when": {"classify.topic": "sport"}}],
            "classify": {"models": {"topic": {"model": models["narrow"]}}},
        }
    )
    tagged = Tagger(settings).tag(table(TEXTS))
    rows = tagged["classify@more"].to_pylist()
    assert rows[1] is not None and rows[1]["kind"] in TOPICS
    assert not any(row and row["kind"] for i, row in enumerate(rows) if i != 1)
    counts = label_counts(tagged, decide(tagged, settings), settings)["classify@more.kind"]
    assert counts[""][0] == len(TEXTS) - 1


def test_the_report_shows_every_label_and_sums_up_what_is_beyond_fifty() -> None:
    counts = {"classify.topic": {f"l{i}": [2, 100 - i, 1, 50] for i in range(60)} | {"": [1, 1000, 1, 1000]}}
    shown = labels_section(counts)
    assert "(not measured)" in shown and "l48" in shown and "l49<" not in shown
    rest = [100 - i for i in range(49, 60)]
    assert "(11 more)" in shown and f">{sum(rest)}<" in shown
