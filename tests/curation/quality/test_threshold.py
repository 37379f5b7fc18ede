"""raypt.curation.quality.threshold: which scores are kept."""

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from raypt.curation.quality.config import ThresholdConfig
from raypt.curation.quality.metrics import score_percentiles
from raypt.curation.quality.threshold import QualityThreshold, make_threshold, uniform
from raypt.errors import UserError


def test_the_bound_itself_is_kept_and_what_is_below_is_not() -> None:
    keep = QualityThreshold(minimum=0.5).keep(np.array([0.5, np.nextafter(0.5, 0), 1.0]), np.arange(3))
    assert keep.tolist() == [True, False, True]


def test_no_rule_keeps_all() -> None:
    assert make_threshold(ThresholdConfig(), {}, 0).keep(np.zeros(4), np.arange(4)).all()


def test_an_unmeasured_score_is_kept() -> None:
    score = pa.array([None, 0.1, float("nan")], pa.float32())
    for rule in (QualityThreshold(minimum=0.5), QualityThreshold(pareto_alpha=1e9)):
        assert rule.keep(score, np.arange(3)).tolist() == [True, False, True]


def test_a_language_with_enough_raw_documents_has_its_own_percentile() -> None:
    score = np.concatenate([np.linspace(0, 1, 1001), np.linspace(0, 0.1, 1001), np.full(10, 0.9)])
    lang = pa.array(["en"] * 1001 + ["zh"] * 1001 + ["la"] * 10)
    table = score_percentiles(score, {"lang": lang})
    rule = make_threshold(ThresholdConfig(percentile=50, min_language_documents=100), table, 0)
    assert rule.minimum_by_language == pytest.approx({"en": 0.5, "zh": 0.05})
    docs = pa.array(["en", "zh", "zh", "la", None])
    keep = rule.keep(np.array([0.3, 0.06, 0.04, 0.2, rule.minimum]), np.arange(5), docs)
    assert keep.tolist() == [False, True, False, True, True]
    overall = make_threshold(ThresholdConfig(percentile=50, by_language=False), table, 0)
    assert overall.minimum_by_language == {}


def test_a_percentile_is_found_under_another_models_name_of_the_language() -> None:
    rule = QualityThreshold(minimum=0.5, minimum_by_language={"zh": 0.05})
    docs = pa.array(["cmn_Hani", "zho_Hans", "eng_Latn"])
    assert rule.keep(np.full(3, 0.1), np.arange(3), docs).tolist() == [True, True, False]


def test_a_percentile_of_too_few_documents_is_refused_with_what_to_do() -> None:
    few = score_percentiles(np.linspace(0, 1, 25), {})
    with pytest.raises(UserError, match=r"25 held-out raw documents, fewer than min_documents=100: between 3 and 28 %"):
        make_threshold(ThresholdConfig(percentile=10), few, 0)
    assert make_threshold(ThresholdConfig(percentile=10, min_documents=25), few, 0).minimum == pytest.approx(0.1)


def test_a_percentile_of_few_documents_is_said_with_its_interval(caplog: pytest.LogCaptureFixture) -> None:
    few = score_percentiles(np.linspace(0, 1, 100), {})
    make_threshold(ThresholdConfig(percentile=10, by_language=False), few, 0)
    assert "100 held-out raw documents" in caplog.text
    assert "between 6 and 18 %" in caplog.text
    caplog.clear()
    make_threshold(ThresholdConfig(percentile=10, by_language=False), score_percentiles(np.linspace(0, 1, 1000), {}), 0)
    assert not caplog.text


def test_pareto_keeps_the_share_that_its_formula_says() -> None:
    keys = np.arange(200_000, dtype=np.int64) << 20
    for score in (0.0, 0.7, 0.95):
        kept = QualityThreshold(pareto_alpha=9, seed=1).keep(np.full(len(keys), score), keys).mean()
        assert kept == pytest.approx((2 - score) ** -9, abs=4e-3)  # P(Lomax(9) > 1 - s) = (1 + 1 - s)^-9


def test_pareto_decides_by_document_key_and_seed_alone() -> None:
    rng = np.random.default_rng(0)
    keys, score = rng.integers(0, 2**62, 5000), rng.random(5000)
    rule = QualityThreshold(pareto_alpha=2, seed=7)
    order = rng.permutation(5000)
    np.testing.assert_array_equal(rule.keep(score, keys)[order], rule.keep(score[order], keys[order]))
    assert (rule.keep(score, keys) != QualityThreshold(pareto_alpha=2, seed=8).keep(score, keys)).any()


def test_uniform_is_uniform_over_consecutive_keys() -> None:
    u = uniform(np.arange(100_000, dtype=np.int64), 3)
    assert u.min() >= 0 and u.max() < 1
    counts, _ = np.histogram(u, bins=50, range=(0, 1))
    assert ((counts - 2000) ** 2 / 2000).sum() < 95  # chi squared, 49 degrees of freedom, p about 1e-4


def test_two_rules_at_once_are_refused() -> None:
    with pytest.raises(ValidationError, match="percentile and pareto_alpha exclude each other"):
        ThresholdConfig(percentile=10, pareto_alpha=9)
