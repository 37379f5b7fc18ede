"""raypt.curation.quality.train: reproducible, balanced, accurate on real text, and clear about bad inputs."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import zstandard

from raypt.curation.quality import train
from raypt.curation.quality.config import QualityConfig, ThresholdConfig
from raypt.curation.quality.model import QualityModel
from raypt.errors import UserError
from raypt.run.curate import describe_quality
from tests.curation.figures import report

CORPORA = Path(__file__).resolve().parents[3].parent / "shared" / "corpora"
REF_VS_WEB = CORPORA / "quality" / "ref_vs_web.dev.jsonl.zst"
SMALL = QualityConfig(epochs=3, min_count=1)


def prose(n: int, start: int = 0) -> pa.Table:
    subjects = ["The river", "A careful reader", "Her grandfather", "The old committee", "This province"]
    verbs = ["considered", "described", "followed", "remembered", "crossed"]
    rest = ["the long argument of the book", "a winter of great hardship", "what the treaty had promised"]
    return pa.table(
        {
            "text": [
                f"{subjects[i % 5]} {verbs[i // 5 % 5]} {rest[i % 3]}, and in the year {1500 + i} it was over."
                for i in range(start, start + n)
            ]
        }
    )


def menus(n: int, start: int = 0) -> pa.Table:
    words = ["Login", "Cart", "Home", "Contact us", "Buy now", "Terms", "Share", "Subscribe"]
    return pa.table(
        {"text": ["\n".join(f"{words[(i * k) % 8]} | {i}" for k in range(1, 9)) for i in range(start, start + n)]}
    )


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> QualityModel:
    return train.train_quality(prose(400), menus(400), SMALL, str(tmp_path_factory.mktemp("small") / "m"), 3)


def test_prose_scores_above_menus(small_model: QualityModel) -> None:
    assert small_model.score(prose(20, 5000)["text"]).min() > 0.5
    assert small_model.score(menus(20, 5000)["text"]).max() < 0.5


def test_the_same_inputs_in_another_order_give_the_same_model(small_model: QualityModel, tmp_path: Path) -> None:
    def reverse(t: pa.Table) -> pa.Table:
        return t.take(pa.array(range(len(t) - 1, -1, -1)))

    again = train.train_quality(reverse(prose(400)), reverse(menus(400)), SMALL, str(tmp_path / "m"), 3)
    assert again.card.model_sha256 == small_model.card.model_sha256
    assert again.card.metrics == small_model.card.metrics


def test_another_seed_gives_another_split_and_model(small_model: QualityModel, tmp_path: Path) -> None:
    other = train.train_quality(prose(400), menus(400), SMALL, str(tmp_path / "m"), 4)
    assert other.card.model_sha256 != small_model.card.model_sha256


def test_a_finished_artefact_of_the_same_inputs_is_not_trained_again(
    small_model: QualityModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "_fit", None)  # calling it would raise
    again = train.train_quality(prose(400), menus(400), SMALL, small_model.uri, 3)
    assert again.card == small_model.card
    with pytest.raises(TypeError):
        train.train_quality(prose(401), menus(400), SMALL, small_model.uri, 3)


def test_duplicates_do_not_change_the_model(small_model: QualityModel, tmp_path: Path) -> None:
    twice = pa.concat_tables([menus(400), menus(150), menus(1, 7)])
    again = train.train_quality(prose(400), twice, SMALL, str(tmp_path / "m"), 3)
    assert again.card.model_sha256 == small_model.card.model_sha256


def test_text_on_both_sides_trains_as_reference_and_counts_in_the_raw_percentiles(tmp_path: Path) -> None:
    raw = pa.concat_tables([menus(400), prose(400)])
    model = train.train_quality(prose(400), raw, SMALL, str(tmp_path / "m"), 3)
    assert model.card.metrics["training"]["documents_on_both_sides"] == 400
    assert model.score(prose(20, 5000)["text"]).min() > 0.5
    scores = model.card.percentiles["all"][""]["scores"]
    assert scores[20] < 0.5 < scores[80]  # half of the raw sample is good


def test_labels_at_random_with_near_copies_measure_as_worthless(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    texts: dict[bool, list[str]] = {True: [], False: []}
    for _ in range(400):
        words = rng.integers(0, 3000, 120)
        side = bool(rng.integers(2))
        for _ in range(4):  # a text and three near copies, all with its label
            copy = words.copy()
            copy[rng.integers(0, len(copy), 2)] = rng.integers(0, 3000, 2)
            texts[side].append(" ".join(f"w{w}" for w in copy))
    config = SMALL.model_copy(update={"epochs": 10, "heldout_fraction": 0.25})
    tables = [pa.table({"text": texts[side]}) for side in (True, False)]
    model = train.train_quality(*tables, config, str(tmp_path / "m"), 3)
    assert model.card.metrics["heldout"]["documents"] > 300
    # About 100 independent texts, 50 a side: the area's standard deviation is sqrt(101 / (12 * 50 * 50)) = 0.06.
    assert model.card.metrics["area_under_roc"] == pytest.approx(0.5, abs=0.2)


def test_labels_at_random_by_site_measure_as_worthless_where_sites_are_known(tmp_path: Path) -> None:
    """Each site has words of its own; its label, at random, is learnt from its other pages if these are there."""
    rng = np.random.default_rng(6)
    rows: dict[bool, list[dict[str, str]]] = {True: [], False: []}
    for site in range(120):
        own, side = rng.integers(0, 10**6, 3), bool(rng.integers(2))
        for page in range(6):
            words = [f"w{w}" for w in rng.integers(0, 3000, 40)] + [f"s{w}" for w in rng.choice(own, 20)]
            rows[side].append({"text": " ".join(words), "url": f"https://www.site{site}.example/{page}"})
    config = SMALL.model_copy(update={"epochs": 30, "heldout_fraction": 0.25})
    areas = []
    for columns in (["text", "url"], ["text"]):
        tables = [pa.Table.from_pylist(rows[side]).select(columns) for side in (True, False)]
        model = train.train_quality(*tables, config, str(tmp_path / columns[-1]), 3)
        areas.append(model.card.metrics["area_under_roc"])
        assert model.card.metrics["split"]["hosts"] == 120 * (len(columns) - 1)
    # About 30 sites are held out, 15 a side: the area's standard deviation is sqrt(31 / (12 * 15 * 15)) = 0.11.
    assert areas[0] == pytest.approx(0.5, abs=0.33)
    assert areas[1] > 0.95


def test_a_model_of_single_words_measures_what_it_knows_and_says_where_it_knows_nothing(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"word_ngrams": 1})
    model = train.train_quality(prose(200), menus(200), config, str(tmp_path / "m"), 3)
    scores = model.score(pa.array([prose(1)["text"][0].as_py(), "qqqq zzzz", ""]))
    assert scores[0] > 0.5 and np.isnan(scores[1:]).all()
    assert model.threshold(ThresholdConfig(minimum=0.9)).keep(pa.array(scores), pa.array([1, 2, 3])).tolist()[1:] == [
        True,
        True,
    ]


def test_languages_are_balanced_and_one_sided_languages_left_out(tmp_path: Path) -> None:
    reference = prose(300).append_column("lang", pa.array(["en"] * 100 + ["de"] * 100 + ["fr"] * 100))
    raw = menus(300).append_column("lang", pa.array(["en"] * 200 + ["de"] * 50 + ["it"] * 50))
    config = QualityConfig(epochs=3, min_count=1, heldout_fraction=0.2)
    model = train.train_quality(reference, raw, config, str(tmp_path / "m"), 3)
    windows = model.card.metrics["training"]["windows_per_side_by_language"]
    assert set(windows) == {"en", "de"}
    assert windows["en"] > windows["de"] > 20
    assert set(model.card.percentiles["lang"]) == {"en", "de", "it"}


def test_too_little_text_is_the_users_mistake_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"curation\.quality\.reference: \d+ training windows from \d+ distinct documents"
    ):
        train.train_quality(prose(10), menus(400), SMALL, str(tmp_path / "m"), 3)
    with pytest.raises(UserError, match="no column 'text'"):
        train.train_quality(pa.table({"content": ["a"]}), menus(400), SMALL, str(tmp_path / "m"), 3)


def test_a_percentile_of_no_held_out_text_is_the_users_mistake_and_is_named(tmp_path: Path) -> None:
    few = SMALL.model_copy(update={"heldout_fraction": 0.001})
    with pytest.raises(UserError, match=r"quality\.raw: none of 40 distinct documents is held out.*heldout_fraction"):
        train.train_quality(prose(40), menus(40), few, str(tmp_path / "m"), 3)
    scored = few.model_copy(update={"threshold": ThresholdConfig(percentile=None)})
    model = train.train_quality(prose(40), menus(40), scored, str(tmp_path / "m"), 3)
    assert "raw scores not measured" in describe_quality(model)


def test_a_nan_is_answered_with_half_the_learning_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    real = train.fit.fit

    def sometimes(text_file: str, model_file: str, **options: Any) -> None:
        rates.append(options["lr"])
        if len(rates) < 3:
            raise train.fit.MetNaN
        real(text_file, model_file, **options)

    monkeypatch.setattr(train.fit, "fit", sometimes)
    model = train.train_quality(prose(100), menus(100), SMALL, str(tmp_path / "m"), 3)
    assert rates == [0.3, 0.15, 0.075]
    assert model.card.metrics["training"]["learning_rate"] == 0.075


def test_a_nan_at_every_rate_is_reported_with_the_key_to_change(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"learning_rate": 1e20})  # every half of it overflows too
    with pytest.raises(UserError, match=r"curation\.quality\.learning_rate"):
        train.train_quality(prose(100), menus(100), config, str(tmp_path / "m"), 3)
    assert not (tmp_path / "m" / "quality.json").exists()


@pytest.mark.parametrize(("words", "epochs"), [(1, 25), (2_400_000, 25), (6_000_000, 10), (12_000_000, 5), (10**9, 5)])
def test_the_number_of_passes_follows_the_size_of_the_training_set(words: int, epochs: int) -> None:
    assert train.epochs_for(words, QualityConfig()) == epochs
    assert train.epochs_for(words, QualityConfig(epochs=3)) == 3


def test_balancing_leaves_out_further_windows_before_further_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[str]] = {}

    def keep(reference: list[str], raw: list[str], seed: int) -> bytes:
        seen["raw"] = raw
        return real(reference, raw, seed)

    real = train._training_lines
    monkeypatch.setattr(train, "_training_lines", keep)
    long = pa.table({"text": [f"page{i} " + " ".join(f"word{k}" for k in range(400)) for i in range(60)]})
    config = QualityConfig(epochs=1, min_count=1, window_bytes=256, max_windows=8)
    train.train_quality(prose(40), long, config, str(tmp_path / "m"), 3)
    first = [w for w in seen["raw"] if w.startswith("page")]
    assert len(seen["raw"]) == len(first) > 25  # every document is there once before any is there twice


def test_windows_are_bounded_spread_and_cut_between_words() -> None:
    line = " ".join(f"word{i:05d}" for i in range(4000))
    windows = train.cut_windows(line, 1000, 4)
    assert len(windows) == 4
    assert all(len(w.encode()) <= 1000 and w in line for w in windows)
    assert all(len(token) == 9 for w in windows for token in w.split())
    assert windows[0].startswith("word00000") and windows[-1].endswith("word03999")
    assert train.cut_windows("short", 1000, 4) == ["short"]


@pytest.fixture(scope="module")
def real_tables() -> dict[str, pa.Table]:
    if not REF_VS_WEB.exists():
        pytest.skip(f"held-out accuracy on real text is not measured: {REF_VS_WEB.name} is absent")
    with REF_VS_WEB.open("rb") as f:
        stream = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(f), encoding="utf8")
        rows = [json.loads(line) for line in stream]
    return {
        label: pa.table({k: [r[k] for r in rows if r["label"] == label] for k in ("text", "lang", "source")})
        for label in ("ref", "web")
    }


@pytest.fixture(scope="module")
def real_model(real_tables: dict[str, pa.Table], tmp_path_factory: pytest.TempPathFactory) -> QualityModel:
    out = str(tmp_path_factory.mktemp("real") / "m")
    return train.train_quality(real_tables["ref"], real_tables["web"], QualityConfig(), out, 1)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_heldout_accuracy_on_real_text_is_at_least_97_percent(real_model: QualityModel, lang: str) -> None:
    found = real_model.card.metrics["heldout_by_language"][lang]
    report(f"quality classifier, held out, {lang}: {found}")
    assert found["documents"] > 300
    assert found["accuracy"] >= 0.97
    assert found["balanced_accuracy"] >= 0.97


def test_a_percentile_drops_that_share_of_raw_pages_in_each_language(
    real_model: QualityModel, real_tables: dict[str, pa.Table]
) -> None:
    threshold = real_model.threshold(ThresholdConfig(percentile=50, min_language_documents=50))
    web = real_tables["web"].slice(0, 4000)
    keep = threshold.keep(real_model.score(web["text"]), np.arange(len(web)), web["lang"].combine_chunks())
    lang = np.array(web["lang"].to_pylist())
    assert {"en", "de", "zh"} <= set(threshold.minimum_by_language)
    for name in ("en", "de", "zh"):  # seen in training for the most part, so a little lower than half
        assert 0.38 <= keep[lang == name].mean() <= 0.62


def test_calibration_bins_cover_the_heldout_documents(real_model: QualityModel) -> None:
    bins = real_model.card.metrics["calibration"]
    assert sum(b["documents"] for b in bins) == real_model.card.metrics["heldout"]["documents"]
    assert bins[0]["reference_fraction"] < 0.05 and bins[-1]["reference_fraction"] > 0.95
