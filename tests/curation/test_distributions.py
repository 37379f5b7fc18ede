"""Numbers by language: counts of shards add up to those of the whole, and quantiles are near those of the values."""

import numpy as np
import pyarrow as pa
import pytest

from raypt.curation.config import CurationConfig
from raypt.curation.distributions import Distributions, distributions, merge, quantile, summarised
from raypt.curation.distributions_page import distributions_section

pytestmark = pytest.mark.fast

CONFIG = CurationConfig.model_validate({"stages": ["perplexity"], "perplexity": {"models": {"en": "m.arpa"}}})
METRIC = "perplexity.per_token"


def found_in(rows: slice) -> Distributions:
    rng = np.random.default_rng(0)
    n = 3000
    values = rng.lognormal(5, 1, n)
    values[::10] = np.nan
    bucket = pa.array(np.where(np.isnan(values), "", np.where(values < 100, "head", "tail")))
    own = pa.StructArray.from_arrays([pa.array(values, from_pandas=True)], names=["per_token"])
    lang = pa.array(["en", "zh", None] * (n // 3))
    table = pa.table({"perplexity": own, "lang": lang, "text_bytes": pa.array(np.arange(n))})
    reason = pa.array([None, "x.y"] * (n // 2), pa.string())
    settled = {"perplexity.bucket": bucket}
    part = {name: column.slice(rows.start, rows.stop - rows.start) for name, column in settled.items()}
    length = rows.stop - rows.start
    return distributions(table.slice(rows.start, length), reason.slice(rows.start, length), CONFIG, part)


def test_shards_add_up_to_the_whole() -> None:
    total: Distributions = {}
    for rows in (slice(2000, 3000), slice(0, 1), slice(1, 2000)):
        merge(total, found_in(rows))
    assert total == found_in(slice(0, 3000))


def test_quantiles_are_within_a_bin_of_those_of_the_values() -> None:
    values = np.random.default_rng(0).lognormal(5, 1, 3000)
    values[::10] = np.nan
    english = values[::3]
    bins = found_in(slice(0, 3000))[METRIC]["en"]["bins"]
    for p in (1, 10, 50, 90, 99):
        found = quantile(bins, p)
        assert found == pytest.approx(np.nanpercentile(english, p), rel=0.0625)  # the widest bin, 1 in 16


def test_the_summary_has_shares_of_the_measured_documents() -> None:
    english = summarised(found_in(slice(0, 3000)))[METRIC]["en"]
    assert english["documents"] == 1000 and english["not_measured"] == 100
    assert sum(english["buckets"]["bucket"].values()) == pytest.approx(1, abs=1e-4)  # rounded to four places


def test_the_page_shows_languages_and_buckets() -> None:
    page = distributions_section(found_in(slice(0, 3000)))
    for shown in ("(unknown)", "not measured", "p30", "p60", "head", "tail", "<svg"):
        assert shown in page


def test_a_language_without_values_and_infinite_values_are_shown() -> None:
    own = pa.StructArray.from_arrays([pa.array([None, np.inf, 1e300], pa.float64())], names=["per_token"])
    table = pa.table({"perplexity": own, "lang": ["de", "en", "en"], "text_bytes": [1, 2, 3]})
    found = distributions(table, pa.nulls(3, pa.string()), CONFIG, {})
    assert found[METRIC]["de"]["bins"] == {}
    assert "de" in distributions_section(found)
