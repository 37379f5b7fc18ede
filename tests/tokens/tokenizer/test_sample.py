import pytest

from raypt.tokens.config import TokenizerConfig
from raypt.tokens.parts import PartSummary
from raypt.tokens.tokenizer.sample import sample_part, sample_rates


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
