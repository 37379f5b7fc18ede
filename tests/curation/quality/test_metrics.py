"""raypt.curation.quality.metrics: figures against their definitions."""

import numpy as np
import pyarrow as pa
import pytest

from raypt.curation.quality import metrics
from raypt.curation.quality.config import ThresholdConfig

SCORE = np.array([0.9, 0.8, 0.4, 0.6, 0.1, 0.2])
IS_REFERENCE = np.array([True, True, True, False, False, False])


def test_confusion_counts_at_one_half() -> None:
    c = metrics.confusion(SCORE, IS_REFERENCE)
    assert (c["true_positive"], c["false_negative"], c["false_positive"], c["true_negative"]) == (2, 1, 1, 2)
    assert c["precision"] == c["recall"] == pytest.approx(2 / 3, abs=1e-6)


def test_a_rate_without_a_denominator_is_null() -> None:
    c = metrics.confusion(np.array([0.1]), np.array([False]))
    assert c["precision"] is None and c["recall"] is None and c["accuracy"] == 1.0


def test_area_under_roc_is_the_share_of_ordered_pairs() -> None:
    rng = np.random.default_rng(1)
    score, is_ref = rng.integers(0, 10, 200) / 10, rng.random(200) < 0.4
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in score[is_ref] for b in score[~is_ref]]
    assert metrics.area_under_roc(score, is_ref) == pytest.approx(np.mean(pairs), abs=1e-6)
    assert metrics.area_under_roc(score, np.ones(200, bool)) is None


def test_percentiles_are_by_group_and_nulls_count_in_all_only() -> None:
    found = metrics.score_percentiles(np.arange(4) / 4, {"lang": pa.array(["en", None, "en", "zh"])})
    assert found["all"][""]["documents"] == 4 and found["all"][""]["scores"][100] == 0.75
    assert {k: v["documents"] for k, v in found["lang"].items()} == {"en": 2, "zh": 1}
    assert len(found["lang"]["en"]["scores"]) == 101


@pytest.mark.parametrize(("percentile", "documents"), [(10, 25), (50, 100), (90, 200)])
def test_the_interval_of_a_percentile_holds_the_share_below_it_in_95_of_100_samples(
    percentile: int, documents: int
) -> None:
    bounds = np.percentile(np.random.default_rng(3).random((20_000, documents)), percentile, axis=1)
    low, high = (q / 100 for q in metrics.dropped_interval(percentile, documents))
    # of uniform scores, the share below a bound is the bound; interpolation makes it a little surer
    assert 0.94 <= ((low <= bounds) & (bounds <= high)).mean() <= 0.97


def test_with_the_least_documents_a_percentile_is_within_ten_points() -> None:
    least = ThresholdConfig().min_documents
    assert all(
        p - 10 <= low and high <= p + 10 for p in range(101) for low, high in [metrics.dropped_interval(p, least)]
    )
    assert metrics.dropped_interval(50, least // 2)[1] > 60


def test_calibration_weighs_both_sides_alike() -> None:
    score = np.concatenate([np.full(10, 0.55), np.full(1000, 0.55)])
    bins = metrics.calibration(score, np.arange(1010) < 10)
    assert bins[5]["documents"] == 1010 and bins[5]["reference_fraction"] == pytest.approx(0.5)
    assert bins[0]["reference_fraction"] is None
