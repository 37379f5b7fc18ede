from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raypt import storage
from raypt.dedup import DedupConfig, deduplicate
from raypt.dedup.config import FuzzyConfig
from raypt.dedup.verify import EVIDENCE, evidence, refine
from tests.dedup.reference import datasketch_signature, documents, jaccard, removed_keys, split, write_shards
from tests.dedup.test_pipeline import mutated_corpus


def chain(links: int, length: int = 100, step: int = 10) -> list[str]:
    """Texts of which each differs from the one before it in `step` words, and the last has none of the first's."""
    words = [f"w{i}" for i in range(length + links * step)]
    return [" ".join(words[i * step : i * step + length]) for i in range(links)]


def test_evidence_is_the_signature_or_the_set_of_shingles() -> None:
    texts = pa.array(["a b c d e f", "one", ""])
    signature = evidence(texts, FuzzyConfig(verify="signature"))
    assert signature[0].as_py() == datasketch_signature("a b c d e f", 5, 112).tolist()
    assert [len(s) for s in evidence(texts, FuzzyConfig(verify="jaccard")).to_pylist()] == [2, 1, 0]


def reference(texts: list[str], order: list[int], threshold: float) -> dict[int, int]:
    """member -> leader, as the definition says."""
    kept: list[int] = []
    leader = {}
    for i in order:
        leader[i] = next((k for k in kept if jaccard(texts[i], texts[k], 5) >= threshold), i)
        if leader[i] == i:
            kept.append(i)
    return leader


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.8])
def test_jaccard_verification_keeps_what_no_kept_document_resembles(tmp_path: Path, threshold: float) -> None:
    texts = chain(12)
    fuzzy = FuzzyConfig(bands=56, rows=2, verify="jaccard", verify_threshold=threshold)
    shards = write_shards(tmp_path, [documents(texts)])
    config = DedupConfig(fuzzy=fuzzy, max_removed_fraction=None)
    deduplicate(shards, config, str(tmp_path / "work"), str(tmp_path / "out"))
    order = sorted(range(12), key=lambda i: (-len(texts[i]), i))
    leader = reference(texts, order, threshold)
    assert removed_keys(tmp_path / "work", shards).keys() == {i for i, k in leader.items() if i != k}
    clusters = storage.read_parquet(str(tmp_path / "out" / "clusters.parquet")).to_pylist()
    expected = {i: min(j for j, m in leader.items() if m == k) for i, k in leader.items()}
    lonely = {k for k in leader.values() if sum(m == k for m in leader.values()) == 1}
    assert {c["doc_key"]: c["cluster_id"] for c in clusters} == {i: c for i, c in expected.items() if i not in lonely}


def test_without_verification_a_chain_is_one_cluster(tmp_path: Path) -> None:
    shards = write_shards(tmp_path, [documents(chain(12))])
    config = DedupConfig(fuzzy=FuzzyConfig(bands=56, rows=2), max_removed_fraction=None)
    deduplicate(shards, config, str(tmp_path / "work"), str(tmp_path / "out"))
    assert len(removed_keys(tmp_path / "work", shards)) == 11


def test_signature_verification_uses_the_share_of_equal_values() -> None:
    signatures = np.array([[1, 2, 3, 4], [1, 2, 3, 9], [1, 2, 8, 9]], np.uint64)
    lists = pa.LargeListArray.from_arrays(pa.array([0, 4, 8, 12]), pa.array(signatures.reshape(-1)))
    members = pa.table({"doc_key": [5, 3, 4], "root": [3, 3, 3], EVIDENCE: lists})
    found = refine(members, FuzzyConfig(verify="signature", verify_threshold=0.75))
    assert found.to_pylist() == [{"doc_key": 5, "root": 3}, {"doc_key": 3, "root": 3}]


def test_components_of_the_index_stay_as_they_are() -> None:
    lists = pa.LargeListArray.from_arrays(pa.array([0, 1, 2]), pa.array([1, 2], pa.uint64()))
    members = pa.table({"doc_key": [5, 6], "root": [-3, -3], EVIDENCE: lists})
    assert refine(members, FuzzyConfig(verify="jaccard")).num_rows == 2


@pytest.mark.parametrize("method", ["signature", "jaccard"])
def test_verified_removals_are_a_part_of_the_unverified_and_partitions_do_not_matter(
    tmp_path: Path, method: str
) -> None:
    shards = write_shards(tmp_path, split(documents(mutated_corpus(400)), 3))
    found = []
    for name, fuzzy, partitions in (
        ("all", FuzzyConfig(), 1),
        ("one", FuzzyConfig(verify=method), 1),
        ("many", FuzzyConfig(verify=method), 6),
    ):
        config = DedupConfig(fuzzy=fuzzy, partitions=partitions, max_removed_fraction=None)
        deduplicate(shards, config, str(tmp_path / name), str(tmp_path / f"{name}-out"))
        found.append(removed_keys(tmp_path / name, shards))
    assert found[1] == found[2]
    assert found[1].keys() < found[0].keys()
