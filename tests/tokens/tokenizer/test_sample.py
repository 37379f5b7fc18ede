import numpy as np
import pyarrow as pa
import pytest

from raypt import storage
from raypt.bench.latency import object_store
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.parts import PartSummary
from raypt.tokens.tokenizer.sample import LEAST_PARTS, SPARE, plan_sample, sample_part, sample_rates


def config(**values: object) -> TokenizerConfig:
    return TokenizerConfig.model_validate({"vocab_size": 400, **values})


def summary(**languages: dict[str, int]) -> PartSummary:
    return PartSummary({}, {}, languages, {}, "")


def test_a_small_corpus_is_sampled_whole() -> None:
    rates = sample_rates([summary(web={"en": 500, "zh": 100})], config(sample_bytes=10_000))
    assert rates == {("web", "en"): 1.0, ("web", "zh"): 1.0}


def test_a_sample_holds_about_as_many_bytes_as_asked() -> None:
    sizes = {("web", "en"): 10**9, ("web", "zh"): 10**6, ("books", ""): 2000}
    parts = [summary(web={"en": 10**9, "zh": 10**6}, books={"": 2000})]
    rates = sample_rates(parts, config(sample_bytes=10_000_000))
    assert sum(rates[k] * n for k, n in sizes.items()) == pytest.approx(10_000_000)


def test_small_languages_are_lifted_and_filled_ones_leave_their_share_to_others() -> None:
    rates = sample_rates([summary(web={"en": 10**9, "zh": 10**6})], config(sample_bytes=10_000_000, sample_alpha=0.5))
    assert rates["web", "zh"] > 10 * rates["web", "en"]
    rates = sample_rates([summary(web={"en": 10**9, "zh": 100})], config(sample_bytes=1_000_000, sample_alpha=0.0))
    assert rates["web", "zh"] == 1.0
    assert rates["web", "en"] == pytest.approx((1_000_000 - 100) / 10**9)


def test_the_seed_decides_which_documents_are_sampled(curated: list[str]) -> None:
    rates = {(s, lang): 0.5 for s in ("web", "books") for lang in ("en", "zh")}
    a, b = (sample_part(curated[4], rates, seed) for seed in (1, 2))
    assert a == sample_part(curated[4], rates, 1)
    assert a != b
    assert 10 < len(a) < 30


def test_a_small_sample_of_many_parts_reads_few_of_them_and_holds_as_much() -> None:
    parts = [summary(web={"en": 1_000_000, "zh": 1000 if i % 2 else 0}) for i in range(20_000)]
    plan = plan_sample(parts, config(sample_bytes=10_000_000), 0)
    whole = sample_rates(parts, config(sample_bytes=10_000_000))
    assert LEAST_PARTS <= len(plan.parts) < 3 * LEAST_PARTS
    for group, size in (("en", 1_000_000), ("zh", 1000)):
        there = [i for i in plan.parts if group == "en" or i % 2]
        taken = plan.rates["web", group] * size * len(there)
        assert taken == pytest.approx(whole["web", group] * size * (20_000 if group == "en" else 10_000))
        assert size * len(there) >= SPARE * taken
    assert plan.parts != plan_sample(parts, config(sample_bytes=10_000_000), 1).parts


def test_a_group_that_is_sampled_whole_is_looked_for_in_all_its_parts() -> None:
    parts = [summary(web={"en": 1_000_000}, rare={"": 10} if i % 1000 == 0 else {}) for i in range(5000)]
    plan = plan_sample(parts, config(sample_bytes=10_000_000, sample_alpha=0.0), 0)
    assert set(range(0, 5000, 1000)) <= set(plan.parts) and plan.rates["rare", ""] == 1.0


def test_text_is_read_of_the_row_groups_that_are_sampled_alone() -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(map(chr, rng.integers(32, 127, 20_000))) for _ in range(100)]
    columns = {"doc_key": np.arange(100), "source": ["web"] * 100, "lang": ["en"] * 100, "text": texts}
    with object_store(0.0) as store:
        storage.write_parquet("latency://b/part-00000.parquet", pa.table(columns), row_group_size=1)
        store.counting = True
        found = sample_part("latency://b/part-00000.parquet", {("web", "en"): 0.05}, 0)
        read = store.figures[""].bytes_read
    assert 0 < len(found) < 20 and set(found) <= set(texts)
    assert read < 20_000 * (len(found) + 8)
