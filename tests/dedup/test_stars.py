from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raypt import storage
from raypt.dedup import DedupConfig, deduplicate, graph, stars
from raypt.dedup.stars import both_ways, large_star, small_star
from raypt.tasks import run_tasks
from tests.dedup.reference import documents, removed_keys, split, write_shards
from tests.dedup.test_components import SHAPES, oracle
from tests.dedup.test_pipeline import mutated_corpus


def alternate(edges: np.ndarray) -> tuple[np.ndarray, int]:
    """(edges (node, root) when nothing changes any more, rounds)"""
    edges = edges[edges[:, 0] != edges[:, 1]]
    changes, rounds = 1, 0
    while changes:
        rounds += 1
        edges, first = large_star(*both_ways(edges).T)
        edges, second = small_star(*edges.T)
        changes = first + second
    return edges, rounds


@pytest.mark.parametrize("shape", SHAPES)
def test_alternating_stars_end_at_the_components(shape: str) -> None:
    edges, rounds = alternate(SHAPES[shape])
    found = dict(edges.tolist())
    expected = oracle(SHAPES[shape])
    assert len(found) == len(edges), "a node is tied to two roots"
    assert found == {node: root for node, root in expected.items() if node != root}
    assert rounds <= 16


def test_no_edges_are_stars_already() -> None:
    assert alternate(np.empty((0, 2), np.int64))[1] == 1


@pytest.mark.parametrize("partitions", [2, 5])
def test_components_above_the_memory_of_a_task_come_out_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partitions: int
) -> None:
    tables = split(documents(mutated_corpus(600)), 3)
    shards = write_shards(tmp_path, tables)
    config = DedupConfig(max_removed_fraction=None, memory_mb=16, partitions=partitions)
    deduplicate(shards, config, str(tmp_path / "work"), str(tmp_path / "out"))
    expected = removed_keys(tmp_path / "work", shards)

    names: list[str] = []

    def runner(function: object, items: list[object], *, name: str) -> list[object]:
        names.append(name)
        return run_tasks(function, items, name=name)  # type: ignore[arg-type]

    monkeypatch.setattr(graph, "EDGE_BYTES", 16 << 20)  # one edge fits
    monkeypatch.setattr(stars, "STAR_BYTES", 1 << 20)
    deduplicate(shards, config, str(tmp_path / "work-2"), str(tmp_path / "out-2"), runner=runner)
    assert "dedup: large star 2" in names
    assert removed_keys(tmp_path / "work-2", shards) == expected
    files = (storage.read_parquet(str(tmp_path / out / "clusters.parquet")) for out in ("out", "out-2"))
    assert pa.Table.equals(*files)
