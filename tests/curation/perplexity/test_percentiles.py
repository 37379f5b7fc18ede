"""Percentiles of the run: bounds, head, middle and tail by group, whatever the order of the shards."""

import logging
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from raypt.curation import percentiles
from raypt.curation.base import Attributes
from raypt.curation.perplexity.config import RunPercentiles
from raypt.curation.perplexity.percentiles import METRIC, Settled, bins, settle, value_of

pytestmark = pytest.mark.fast


def measured(values: np.ndarray, lang: np.ndarray) -> pa.Table:
    own = pa.StructArray.from_arrays([pa.array(values, from_pandas=True)], names=[METRIC])
    return pa.table({"perplexity": own, "lang": pa.array(lang)})


def settled(tables: list[pa.Table], **asked: Any) -> Settled:
    settings = RunPercentiles(**asked)
    total: percentiles.Counts = {}
    for table in tables:
        counts = percentiles.count(Attributes(table, "perplexity"), {METRIC: settings.within}, bins)
        percentiles.merge(total, counts)
    return settle(total, settings)


def corpus() -> pa.Table:
    """Two languages, one ten times as perplexing; a small one; some documents not measured."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.lognormal(4, 1, 2000), 10 * rng.lognormal(4, 1, 1000), rng.lognormal(4, 1, 10)])
    values[:50] = np.nan
    return measured(values, np.array(["en"] * 2000 + ["zh"] * 1000 + ["yo"] * 10))


def test_bins_ascend_with_the_perplexity_and_tell_apart_one_part_in_two_thousand() -> None:
    values = np.array([1.0, 1.001, 17.0, 17.02, 1e4, 1.001e4, 1e30, np.inf])
    assert (np.diff(bins(values)) > 0).all()
    assert bins(np.array([np.nan])).tolist() == [-1]
    spread = np.exp(np.random.default_rng(1).uniform(0, 20, 1000))
    lowest = np.array([value_of(int(at)) for at in bins(spread)])
    assert ((lowest <= spread) & (spread < lowest * (1 + 2**-11) * (1 + 1e-6))).all()  # 1e-6: rounding to float32


def test_bounds_and_buckets_are_those_of_each_language() -> None:
    table = corpus()
    found = settled([table], min=5, max=90, buckets=(30, 60))
    attributes = Attributes(table, "perplexity")
    values, lang = attributes.metric(METRIC), np.array(table["lang"].to_pylist())
    bucket = np.array(found.bucket(attributes).to_pylist())
    for code in ("en", "zh"):
        own = (lang == code) & ~np.isnan(values)
        rank = np.argsort(np.argsort(values[own])) / own.sum()
        below, above = found.below(attributes)[own], found.above(attributes)[own]
        assert below.mean() <= 0.05 and above.mean() <= 0.1
        # a bin holds a document or two of a thousand, and stays together
        clear = np.all([np.abs(rank - edge) > 0.003 for edge in (0.05, 0.3, 0.6, 0.9)], axis=0)
        np.testing.assert_array_equal(below[clear], rank[clear] < 0.05)
        np.testing.assert_array_equal(above[clear], rank[clear] > 0.9)
        wanted = np.where(rank < 0.3, "head", np.where(rank < 0.6, "middle", "tail"))
        np.testing.assert_array_equal(bucket[own][clear], wanted[clear])
    passes = np.isnan(values) | (lang == "yo")
    assert not (found.below(attributes) | found.above(attributes))[passes].any()
    assert set(bucket[passes]) == {None}


def test_the_same_is_settled_for_any_cut_into_shards_and_any_order() -> None:
    table = corpus()
    order = np.random.default_rng(2).permutation(len(table))
    shuffled = table.take(pa.array(order))
    parts = [shuffled.slice(2500), shuffled.slice(0, 7), shuffled.slice(7, 2493)]
    asked = {"min": 1, "max": 99, "buckets": (30, 60)}
    assert settled([table], **asked) == settled(parts, **asked)


def test_a_small_group_has_no_percentiles_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "raypt"):
        found = settled([corpus()], max=50)
    assert "min_documents (200) in yo (10)" in caplog.text
    assert len(found.edges) == 2


def test_the_whole_run_is_a_group_when_none_is_named() -> None:
    table = corpus()
    attributes = Attributes(table, "perplexity")
    found = settled([table], max=50, within=())
    values = attributes.metric(METRIC)
    gone = found.above(attributes)
    assert gone[~np.isnan(values)].mean() == pytest.approx(0.5, abs=0.001)
    assert values[gone].min() >= np.nanmedian(values) * (1 - 1e-3)


def test_equal_perplexities_stay_together() -> None:
    table = measured(np.array([5.0] * 70 + [9.0] * 30), np.array(["en"] * 100))
    found = settled([table], min=20, max=80, buckets=(30, 60), min_documents=1)
    attributes = Attributes(table, "perplexity")
    assert not found.below(attributes).any()
    assert not found.above(attributes).any()
    assert found.bucket(attributes).to_pylist() == ["tail"] * 100  # 70 % are too many for the head and for the middle


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"min": 50, "max": 20}, "must be the smaller one"),
        ({"buckets": (60, 30)}, "must be the smaller one"),
        ({"buckets": (0, 30)}, "between 0 and 100"),
        ({"max": 101}, "less than or equal to 100"),
    ],
)
def test_percentiles_that_cannot_be_are_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RunPercentiles(**asked)
