"""Bloom filters against sets, at their stated rate, in the corpus's order whatever the workers and partitions."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raypt import storage
from raypt.dedup import DedupConfig, DedupResult, apply_shard, deduplicate
from raypt.dedup.bloom import Bloom, key_rate
from raypt.dedup.bloom_filter import BloomFilter, filter_bytes, filter_size
from raypt.dedup.config import BloomConfig, ExactConfig, FuzzyConfig
from raypt.dedup.keys import FuzzyKeys
from raypt.dedup.page import dedup_section
from raypt.ledger import Amount
from tests.dedup.reference import documents, read_jsonl, split, write_shards
from tests.dedup.test_pipeline import mutated_corpus, words

EXACT_IN_EFFECT = 1e-9
"""A rate at which a false positive among 10^4 keys has a chance of 10^-5: the filter answers as a set."""


def bloom(unit: str, rate: float = EXACT_IN_EFFECT, **options: Any) -> DedupConfig:
    chosen = BloomConfig(enabled=True, unit=unit, false_positive_rate=rate, min_words=options.pop("min_words", None))  # type: ignore[arg-type]
    off: dict[str, Any] = {"exact": ExactConfig(enabled=False), "fuzzy": FuzzyConfig(enabled=False)}
    return DedupConfig(**(off | {"max_removed_fraction": None, "bloom": chosen} | options))


def run(directory: Path, tables: list[pa.Table], config: DedupConfig) -> tuple[list[str], set[int], DedupResult]:
    """(texts that are left, doc_keys that are not, the result)"""
    shards = write_shards(directory, tables)
    result = deduplicate(shards, config, str(directory / "work"), str(directory / "out"))
    texts, lost = list[str](), set[int]()
    for table, shard in zip(tables, shards, strict=True):
        name = f"shard-{shard.index:05d}.parquet"
        removed = storage.read_parquet(str(directory / "work" / "removed" / name))
        edits = str(directory / "work" / "edits" / name)
        lost |= set(removed["doc_key"].to_pylist())
        texts += apply_shard(table, removed, storage.read_parquet(edits) if storage.exists(edits) else None)[0][
            "text"
        ].to_pylist()
    result.account.check("dedup")
    return texts, lost, result


@pytest.mark.parametrize("rate", [0.2, 1e-2, 1e-3])
def test_a_full_filter_takes_new_keys_for_known_at_its_stated_rate_and_forgets_none(rate: float) -> None:
    rng = np.random.default_rng(1)
    keys, fresh = rng.integers(0, 2**64, (2, 200_000), dtype=np.uint64)
    seen = BloomFilter(len(keys), rate)
    seen.add(keys)
    assert seen.add(keys).all()
    full = seen.words.copy()
    wrong = 0
    for part in np.array_split(fresh, 2_000):  # each against the full filter as it was
        seen.words[:] = full
        wrong += int(seen.add(part).sum())
    # A binomial share of 200,000: four standard deviations are 4 % of the rate at 1e-2, 28 % at 1e-3; the hundred
    # keys that are added before the last of each part is asked fill next to nothing.
    assert wrong / len(fresh) == pytest.approx(rate, rel=0.04 + 4 / (rate * len(fresh)) ** 0.5)


@pytest.mark.parametrize("rate", [0.3, 1e-2, 1e-5, 1e-9])
def test_memory_is_within_a_tenth_of_blooms_formula(rate: float) -> None:
    ideal = -np.log(rate) / np.log(2) ** 2 * 10**9 / 8
    assert ideal <= filter_bytes(10**9, rate) < 1.1 * ideal
    assert filter_size(0, rate)[0] == 1


def test_the_rate_of_a_document_is_shared_by_its_bands() -> None:
    p = key_rate(bloom("band", 1e-3))
    assert 1 - (1 - p) ** 14 == pytest.approx(1e-3)


@pytest.mark.parametrize(("shards", "partitions"), [(1, 1), (5, 7)])
def test_of_equal_documents_the_first_in_the_corpus_stays(tmp_path: Path, shards: int, partitions: int) -> None:
    texts = [words(i % 40) + " " * (i % 3) for i in range(120)]
    left, _, result = run(tmp_path, split(documents(texts), shards), bloom("document", partitions=partitions))
    assert left == texts[:40]
    assert result.removed == {"dedup.bloom": 80}
    assert result.report["bloom"]["known"] == 80 and result.report["bloom"]["keys"] == 120
    assert "1e-09" in dedup_section(result.report)


@pytest.mark.parametrize(("shards", "partitions"), [(1, 1), (4, 9)])
def test_documents_with_a_band_seen_before_go_as_one_pass_with_a_set_says(
    tmp_path: Path, shards: int, partitions: int
) -> None:
    texts = mutated_corpus(300, seed=3)
    tables = split(documents(texts), shards)
    config = bloom("band", partitions=partitions)
    rows = FuzzyKeys().rows(pa.concat_tables(tables), None, config)
    seen, expected = set[int](), set[int]()
    for band, key in zip(rows["hash"].to_pylist(), rows["doc_key"].to_pylist(), strict=True):
        if band in seen:
            expected.add(key)
        seen.add(band)
    _, lost, result = run(tmp_path, tables, config)
    assert lost == expected and len(lost) > 50
    assert set(result.removed) == {"dedup.bloom"}


def test_a_paragraph_stays_where_it_comes_first_and_the_bytes_add_up(tmp_path: Path) -> None:
    notice = "Subscribe to our newsletter. 订阅我们的通讯。"
    texts = [f"{words(i)}\n\n{notice}\n\n{words(50 + i)}" for i in range(4)]
    texts += [f"{notice.upper()}\n\nToo few.", f"{words(9)}\n\n{words(10)}\n\n{words(9)}"]
    left, _, result = run(tmp_path, split(documents(texts), 2), bloom("paragraph", min_words=10, partitions=3))
    assert left == [texts[0], *(f"{words(i)}\n\n{words(50 + i)}" for i in (1, 2, 3)), f"{words(9)}\n\n{words(10)}"]
    assert result.removed == {"dedup.remainder": 1}
    cut = 3 * (len(notice.encode()) + 2) + len(words(9)) + 2
    assert result.account.edited == {"dedup.bloom": Amount(4, cut)}


def test_within_a_source_only_its_own_documents_count(tmp_path: Path) -> None:
    texts = [words(1), words(1), words(1), words(2)]
    tables = [documents(texts, source=["a", "b", "a", "b"])]
    assert run(tmp_path, tables, bloom("document", scope="source"))[1] == {2}


def test_at_a_high_rate_the_report_expects_the_mistakes_that_are_made(tmp_path: Path) -> None:
    texts = [f"{words(i, 3)} {i}" for i in range(4_000)]
    _, lost, result = run(tmp_path, [documents(texts)], bloom("document", 0.1))
    # Falsely removed: a Poisson count, four of its standard deviations; the fill is averaged over a file.
    assert len(lost) == pytest.approx(result.report["bloom"]["expected_false"], rel=0.6, abs=40)
    assert 0 < len(lost) < 0.1 * len(texts)


def test_memory_at_a_trillion_tokens_is_what_the_documentation_says() -> None:
    documents_, text = 10**9, 45 * 10**11  # of 1,000 tokens, 4.5 bytes each
    gigabytes = {unit: Bloom().reduce_bytes(bloom(unit, 1e-5), documents_, text) / 1e9 for unit in ("document", "band")}
    assert gigabytes == {"document": pytest.approx(3.0, abs=0.1), "band": pytest.approx(52, abs=1)}


@pytest.mark.parametrize(
    ("name", "recall"),
    [("neardup/synthetic_edits.dev.docs.jsonl.zst", 0.97), ("neardup/spdx_licences.docs.jsonl.gz", 0.95)],
)
def test_on_real_text_it_finds_nearly_all_that_the_exact_passes_do_and_nothing_else(
    tmp_path: Path, name: str, recall: float
) -> None:
    tables = split(documents([row["text"] for row in read_jsonl(name)]), 3)
    exact = DedupConfig(max_removed_fraction=None, measure_s_curve=False)
    _, wanted, _ = run(tmp_path / "exact", tables, exact)
    _, lost, _ = run(tmp_path / "bloom", tables, bloom("band", 1e-5))
    clusters = storage.read_parquet(str(tmp_path / "exact" / "out" / "clusters.parquet"))
    members = set(clusters["doc_key"].to_pylist())
    assert lost <= members, "a document without a near copy was removed"
    # All but one of a cluster go by either. Where a later document joins two groups, the first of both stay here:
    # rare among edited copies of one text (chains of two), commoner among licences, which grow from each other.
    assert recall * len(wanted) <= len(lost) <= len(wanted)
