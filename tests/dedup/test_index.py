"""Runs that compare with what earlier runs left."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raypt import storage
from raypt.dedup import DedupConfig, DedupResult, DedupShard, deduplicate
from raypt.dedup.config import FuzzyConfig
from raypt.dedup.rebuild import rebuild_index
from raypt.errors import UserError
from tests.dedup.reference import documents, removed_keys, split, write_shards
from tests.dedup.test_pipeline import mutated_corpus

LOOSE = FuzzyConfig(bands=56, rows=2)


def words(seed: int, count: int = 60) -> list[str]:
    return [f"w{x}" for x in np.random.default_rng(seed).integers(0, 10**6, count)]


class Runs:
    """Runs one after the other over one index."""

    def __init__(self, directory: Path, fuzzy: FuzzyConfig = LOOSE) -> None:
        self.directory = directory
        self.config = DedupConfig(fuzzy=fuzzy, index=str(directory / "index"), max_removed_fraction=None)

    def run(self, name: str, tables: list[pa.Table], partitions: int = 1) -> dict[int, str]:
        shards = self.shards(name, tables)
        self.result = self.deduplicate(name, shards, partitions)
        return removed_keys(self.directory / name / "work", shards)

    def shards(self, name: str, tables: list[pa.Table]) -> list[DedupShard]:
        return write_shards(self.directory / name, tables)

    def deduplicate(self, name: str, shards: list[DedupShard], partitions: int = 1) -> DedupResult:
        config = self.config.model_copy(update={"partitions": partitions})
        place = self.directory / name
        return deduplicate(shards, config, str(place / "work"), str(place / "out"))


def test_what_is_in_the_index_wins_over_longer_and_better_copies(tmp_path: Path) -> None:
    runs, text = Runs(tmp_path), words(1)
    assert runs.run("first", [documents([" ".join(text)], quality_score=pa.array([0.1]))]) == {}
    longer = documents([" ".join([*text, "and", "more"]), " ".join(text)], quality_score=pa.array([0.9, 0.9]))
    assert runs.run("second", [longer]) == {0: "dedup.index", 1: "dedup.index"}
    assert runs.result.report["removed_between_sources"] == [{"kept": "(index)", "removed": "web", "documents": 2}]


def test_new_documents_are_compared_among_themselves_too(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.run("first", [documents([" ".join(words(1))])])
    new = " ".join(words(2))
    assert runs.run("second", [documents([new, new, " ".join(words(3))])]) == {1: "dedup.exact"}
    assert runs.run("third", [documents([" ".join(words(3)), " ".join(words(4))])]) == {0: "dedup.index"}


def test_a_near_copy_of_a_document_that_an_earlier_run_removed_is_found(tmp_path: Path) -> None:
    text = " ".join(words(1))
    runs = Runs(tmp_path)
    assert runs.run("first", [documents([text, text])]) == {1: "dedup.exact"}
    assert runs.run("second", [documents([text])]) == {0: "dedup.index"}


def test_a_document_between_two_old_ones_joins_them_in_a_batch_but_not_in_the_index(tmp_path: Path) -> None:
    """The example of the difference between batch and incremental results: both ends stay once they were kept."""
    left, right = words(1, 80), words(2, 80)
    ends, bridge = [" ".join(left), " ".join(right)], " ".join(left + right)
    runs = Runs(tmp_path)
    assert runs.run("first", [documents(ends)]) == {}
    assert runs.run("second", [documents([bridge])]) == {0: "dedup.index"}
    batch = Runs(tmp_path / "batch")
    assert len(batch.run("all", [documents([*ends, bridge])])) == 2


def test_a_repeated_run_compares_with_what_was_there_before_it(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.run("first", [documents([" ".join(words(1))])])
    tables = [documents([" ".join(words(1)), " ".join(words(2))])]
    shards = runs.shards("second", tables)
    first = runs.deduplicate("second", shards)
    assert runs.deduplicate("second", shards) == first
    shutil.rmtree(tmp_path / "second" / "work")
    assert runs.deduplicate("second", shards) == first
    assert first.removed == {"dedup.index": 1}


def test_any_numbers_of_partitions_work_together(tmp_path: Path) -> None:
    tables = split(documents(mutated_corpus(600)), 3)
    found = []
    for name, partitions in (("one", (1, 1, 1)), ("growing", (1, 4, 16)), ("shrinking", (7, 3, 1))):
        runs = Runs(tmp_path / name, FuzzyConfig())
        found.append([runs.run(f"run-{i}", [tables[i]], partitions[i]) for i in range(3)])
    assert found[0] == found[1] == found[2]
    assert sum("dedup.index" in run.values() for run in found[0]) == 2


def test_other_parameters_are_refused_and_named(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    runs.run("first", [documents(["some text of a few words"])])
    runs.config = runs.config.model_copy(update={"fuzzy": FuzzyConfig(ngram=3)})
    with pytest.raises(UserError, match=r"dedup\.index: .* other parameters \(fuzzy: index .*configuration"):
        runs.run("second", [documents(["some text of a few words"])])


def test_a_rebuild_finds_the_clusters_of_one_batch(tmp_path: Path) -> None:
    tables = split(documents(mutated_corpus(600)), 3)
    runs = Runs(tmp_path, FuzzyConfig())
    for i, table in enumerate(tables):
        runs.run(f"run-{i}", [table], partitions=2 * i + 1)
    rebuilt = rebuild_index(runs.config, str(tmp_path / "work"), str(tmp_path / "rebuilt"))
    batch = DedupConfig(max_removed_fraction=None)
    expected = deduplicate(
        write_shards(tmp_path / "batch", tables), batch, str(tmp_path / "batch-work"), str(tmp_path / "out")
    )
    clusters = (storage.read_parquet(str(tmp_path / name / "clusters.parquet")) for name in ("rebuilt", "out"))
    assert next(clusters).equals(next(clusters))
    assert rebuilt.removed == expected.removed
    assert [o["shard"] for o in storage.read_json(str(tmp_path / "rebuilt" / "shards.json"))] == [0, 1, 2]


def test_a_rebuild_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no index to rebuild"):
        rebuild_index(DedupConfig(index=str(tmp_path / "none")), str(tmp_path / "w"), str(tmp_path / "o"))
