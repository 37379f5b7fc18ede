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
from raypt.curation.classify.percentiles import bins, rankings, settle
from raypt.curation.classify.prepare import check_settings, prepare
from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.deciding import label_counts, labels_summarised
from raypt.curation.page import labels_section
from raypt.curation.percentiles import TWENTIETHS, keyed
from raypt.curation.quality.fit import fit
from raypt.curation.settled import settled_columns, with_settled
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
    within = {keyed("good", ("lang",)): ("lang",)}
    for part in (whole.slice(1500), whole.slice(0, 700), whole.slice(700, 800)):
        percentiles.merge(total, percentiles.count(Attributes(part, "classify"), within, bins))
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


def counted(parts: list[pa.Table], within: dict[str, tuple[str, ...]]) -> percentiles.Counts:
    total: percentiles.Counts = {}
    for part in parts:
        percentiles.merge(total, percentiles.count(Attributes(part, "classify"), within, bins))
    return total


def test_a_document_stands_at_the_share_of_its_group_below_it_and_half_of_its_equals() -> None:
    rng = np.random.default_rng(3)
    topic = np.array(["law"] * 1000 + ["sport"] * 400 + ["rare"] * 5)
    values = rng.permutation(np.concatenate([rng.uniform(0.9, 1, 700), rng.uniform(0, 0.2, 705)]))
    values[1100:1300] = 0.125  # half of the group
    values[7] = np.nan
    table = scored(values, topic=pa.array(topic))
    settings = Classify.model_validate({"percentiles": {"good": {"within": ["topic"]}}})
    counts = counted([table], {keyed("good", ("topic",)): ("topic",)})
    settled = settle(counts, {}, rankings(settings))
    found = settled.metric("good_percentile", Attributes(table, "classify"), settings)
    at = bins(np.float32(values))
    for i, name in enumerate(topic):
        among = (topic == name if name != "rare" else np.full(len(topic), True)) & (at >= 0)
        below, equal = (at[among] < at[i]).sum(), (at[among] == at[i]).sum()
        wanted = (2 * below + equal) * 500 // among.sum() / 10
        assert np.isnan(found[i]) if i == 7 else found[i] == np.float32(wanted), (i, name)
    assert np.nanmax(found) < 100
    law = found[(topic == "law") & ~np.isnan(found)]
    assert np.bincount((law // 5).astype(int), minlength=20) == pytest.approx(50, abs=2)  # twentieths of a thousand


def test_percentiles_are_the_same_for_any_cut_into_shards_and_any_order() -> None:
    rng = np.random.default_rng(4)
    table = scored(rng.beta(0.3, 0.3, 3000), lang=pa.array(rng.choice(["en", "zh"], 3000)))
    shuffled = table.take(pa.array(rng.permutation(3000)))
    settings = Classify.model_validate({"percentiles": {"good": {"within": ["lang"]}}})
    within = {keyed("good", ("lang",)): ("lang",)}
    parts = [shuffled.slice(2500), shuffled.slice(0, 7), shuffled.slice(7, 2493)]
    whole, cut = (settle(counted(p, within), {}, rankings(settings)) for p in ([table], parts))
    assert whole == cut and whole.identity() == cut.identity()
    assert all(len(bins) <= 1000 for steps in whole.steps.values() for bins, _ in steps.values())
    found = whole.metric("good_percentile", Attributes(table, "classify"), settings)
    some = whole.metric("good_percentile", Attributes(table.slice(11, 100), "classify"), settings)
    np.testing.assert_array_equal(some, found[11:111])


def test_an_ensemble_of_percentiles_is_the_largest_or_the_mean_of_where_members_stand() -> None:
    """One model is sure of itself, the other not: the larger of their probabilities would be the first one's always."""
    rng = np.random.default_rng(5)
    sure, unsure = rng.uniform(0.9, 1, 1000), rng.uniform(0, 0.1, 1000)
    unsure[3], sure[4], unsure[4] = np.nan, np.nan, np.nan
    columns = [pa.array(values, pa.float32(), from_pandas=True) for values in (sure, unsure)]
    table = pa.table({"classify": pa.StructArray.from_arrays(columns, names=["a_hq", "b_high"])})
    of = {"a": "hq", "b": "high"}
    ensembles = {"top": {"of": of, "how": "percentile"}, "middle": {"of": of, "how": "percentile_mean"}}
    models = {name: {"model": "m.bin"} for name in of}
    settings = Classify.model_validate(
        {"models": models, "ensembles": ensembles, "percentiles": {"a_hq": {}, "b_high": {}}}
    )
    settled = settle(counted([table], {"a_hq": (), "b_high": ()}), {}, rankings(settings))
    found = settings.settled_metrics(Attributes(table, "classify"), settled)
    a, b, top, middle = (
        found[name].to_numpy(zero_copy_only=False) for name in ("a_hq_percentile", "b_high_percentile", "top", "middle")
    )
    np.testing.assert_array_equal(top, np.fmax(a, b))
    np.testing.assert_allclose(middle[5:], (a[5:] + b[5:]) / 2, rtol=1e-6)
    assert top[3] == middle[3] == a[3] and np.isnan(top[4])
    assert 0.4 < (b[5:] > a[5:]).mean() < 0.6


def test_percentiles_decide_and_condition_other_stages_and_are_counted_by_twentieth(models: dict[str, str]) -> None:
    rng = np.random.default_rng(6)
    words = ["atom", "cell", "star", "goal", "team", "ball", "court", "judge"]
    texts = [" ".join(rng.choice(words, 6)) for _ in range(300)]
    stage = {"models": {"topic": {"model": models["narrow"]}}, "percentiles": {"topic_law": {}}}
    length = {
        "stage": "length",
        "settings": {"chars_min": 10**6},
        "when": {"classify.topic_law_percentile": {"min": 90}},
    }
    more = {
        "stages": ["classify", length],
        "columns": {"classify.topic_law_percentile": {"max": 80, "missing": "drop"}},
    }
    settings = config({**stage, "decisions": {"topic_law_percentile": {"min": 40}}}, **more)
    bare = config({"models": stage["models"]}, stages=["classify", "length"])
    assert settings.tagging_settings()["stages"][-1]["when"] == {}
    assert settings.tagging_settings()["stages"][1:] == bare.tagging_settings()["stages"]  # decides, measures nothing
    tagged = Tagger(settings).tag(table(texts))
    ranked = rankings(settings.classify)
    settled = {"classify": settle(counted([tagged], {"topic_law": ()}), {}, ranked)}
    whole = with_settled(tagged, settled_columns(tagged, settings, settled))
    p = np.array([row["topic_law_percentile"] for row in whole["classify"].to_pylist()])
    below = np.where(p < 40, "classify.topic_law_percentile_min", None)
    reasons = decide(whole, settings, settled)
    assert reasons.to_pylist() == np.where(p > 80, "columns.classify.topic_law_percentile_max", below).tolist()
    counts = label_counts(whole, reasons, settings)["classify.topic_law_percentile"]
    twentieth = p // 5
    for i, label in enumerate(TWENTIETHS):
        n, _, kept, _ = counts.get(label, (0, 0, 0, 0))
        assert (n, kept) == ((twentieth == i).sum(), ((twentieth == i) & (p >= 40) & (p <= 80)).sum())
    loose = settings.model_copy(update={"columns": type(settings.columns)()})
    assert decide(whole, loose, settled).to_pylist() == np.where(p >= 90, "length.chars_min", below).tolist()
    summary = labels_summarised({"classify.topic_law_percentile": counts})["classify.topic_law_percentile"]
    assert [*summary["40-45"].values()] == counts["40-45"] and summary["40-45"]["kept_documents"] > 0
    shown = labels_section({"classify.topic_law_percentile": counts})
    assert shown.index("40-45") < shown.index("75-80")


@pytest.mark.parametrize(
    ("stage", "more", "said"),
    [
        ({"percentiles": {"topic": {}}}, {}, "the most probable label is no number"),
        ({"ensembles": {"e": {"of": {"topic": "a"}, "within": ["lang"]}}}, {}, "within: max is of probabilities"),
        (
            {"ensembles": {"e": {"of": {"topic": "a"}, "how": "percentile"}}, "percentiles": {"e": {}}},
            {},
            "the ensemble is one of percentiles already",
        ),
        (
            {"percentiles": {"topic_a": {}}, "decisions": {"topic_a_percentile": {"percentile": 5}}},
            {},
            "a percentile already; bound it by min",
        ),
        (
            {"percentiles": {"topic_a": {}, "topic_b": {"within": ["classify.topic_a_percentile"]}}},
            {},
            "within the groups of classify.topic_a_percentile, which is settled together",
        ),
        (
            {"percentiles": {"topic_a": {}}},
            {"stages": ["classify", {"stage": "c4", "when": {"classify.topic_a_percentile": {"max": 50}}}]},
            "c4 edits text, and whether a document meets its condition on classify.topic_a_percentile is known only",
        ),
    ],
)
def test_percentiles_that_cannot_be_are_refused(stage: dict[str, Any], more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config({"models": {"topic": {"model": "m.bin"}}, **stage}, **more)


def test_an_ensemble_of_percentiles_needs_its_members_among_the_stored_metrics() -> None:
    stage = {
        "models": {"topic": {"model": "m.bin", "labels": ["a"]}},
        "ensembles": {"e": {"of": {"topic": "b"}, "how": "percentile"}},
    }
    with pytest.raises(ValueError, match=r"models.topic.labels leaves 'b' out; add it there"):
        config(stage)
