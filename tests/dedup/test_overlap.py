"""Documents planted in several of five data sets are found, whatever was done to the copy."""

import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raypt import storage
from raypt.dedup import DedupConfig, deduplicate
from raypt.dedup.shingles import shingle
from raypt.dedup.tokenise import tokenise
from tests.dedup.reference import CORPORA, documents, read_jsonl, write_shards

DEV = CORPORA / "schemas" / "dev"
FIELDS = {"pile": "text", "slimpajama": "text", "refinedweb": "content", "culturax": "text", "roots": "text"}


def load(dataset: str) -> list[str]:
    texts = []
    for path in sorted((DEV / dataset).rglob("*.*")):
        if path.suffix == ".parquet":
            texts += pq.read_table(path)[FIELDS[dataset]].to_pylist()
        else:
            texts += [row[FIELDS[dataset]] for row in read_jsonl(str(path.relative_to(CORPORA)))]
    return texts


def shingle_sets(texts: list[str]) -> list[np.ndarray]:
    hashes, offsets = shingle(tokenise(pa.array(texts, pa.large_string())), 5)
    return [np.unique(hashes[i:j]) for i, j in itertools.pairwise(offsets)]


class Index:
    """Finds the most similar document of a data set by counting shared shingles."""

    def __init__(self, texts: list[str]) -> None:
        self.sets = shingle_sets(texts)
        hashes = np.concatenate(self.sets)
        rows = np.repeat(np.arange(len(self.sets)), [len(s) for s in self.sets])
        order = np.argsort(hashes)
        self.hashes, self.rows = hashes[order], rows[order]

    def best(self, query: np.ndarray) -> tuple[int, float]:
        """(row, Jaccard similarity)"""
        a, b = (np.searchsorted(self.hashes, query, side) for side in ("left", "right"))
        hits = Counter(self.rows[np.concatenate([np.arange(i, j) for i, j in zip(a, b, strict=True)])].tolist())
        similar = {row: n / (len(query) + len(self.sets[row]) - n) for row, n in hits.items()}
        return max(similar.items(), key=lambda item: item[1])


def test_planted_overlaps_are_found(tmp_path: Path, show: Callable[[str], None]) -> None:
    truth = read_jsonl("schemas/dev/overlap_truth.jsonl.gz")
    wanted = {row["origin"] for row in truth}  # some are texts of a split that is not there
    origins = {
        doc["id"]: doc["text"]
        for name in ("web/docs_text.dev.jsonl.zst", "reference/novels_en.dev.jsonl.zst")
        for doc in read_jsonl(name)
        if doc["id"] in wanted
    }
    datasets = {name: load(name) for name in FIELDS}
    tables = [documents(texts, shard=i, source=name) for i, (name, texts) in enumerate(datasets.items())]
    result = deduplicate(
        write_shards(tmp_path, tables),
        DedupConfig(),
        str(tmp_path / "work"),
        str(tmp_path / "out"),
        source_priority={"roots": 1},
    )
    clusters = storage.read_parquet(str(tmp_path / "out" / "clusters.parquet"))
    cluster = dict(zip(clusters["doc_key"].to_pylist(), clusters["cluster_id"].to_pylist(), strict=True))
    indexes = {name: Index(texts) for name, texts in datasets.items()}
    queries = dict(zip(origins, shingle_sets(list(origins.values())), strict=True))

    truth = [row for row in truth if row["origin"] in origins]
    assert len(truth) > 140
    planted, found = Counter[str](), Counter[str]()
    for row in truth:
        copies = []
        for copy in row["copies"]:
            index, _ = indexes[copy["dataset"]].best(queries[row["origin"]])
            copies.append((copy["kind"], (list(FIELDS).index(copy["dataset"]) << 32) + index))
        home = Counter(cluster[key] for _, key in copies if key in cluster).most_common(1)[0][0]
        for kind, key in copies:
            planted[kind] += 1
            found[kind] += cluster.get(key) == home
    show("planted overlaps found: " + ", ".join(f"{k} {found[k]}/{planted[k]}" for k in sorted(planted)))
    assert found["exact"] == planted["exact"] > 120
    assert found["space"] == planted["space"] > 60
    assert found["head"] / planted["head"] > 0.97
    assert found["del2pct"] / planted["del2pct"] > 0.9

    matrix = {(m["a"], m["b"]): m["clusters"] for m in result.report["shared_between_sources"]}
    together = Counter(
        (a, b)
        for row in truth
        for a in {c["dataset"] for c in row["copies"]}
        for b in {c["dataset"] for c in row["copies"]}
        if a < b
    )
    show("clusters shared by sources: " + json.dumps({f"{a} x {b}": n for (a, b), n in sorted(matrix.items())}))
    assert all(matrix[pair] >= 0.9 * n for pair, n in together.items())
    lost_by_roots = [m for m in result.report["removed_between_sources"] if m["removed"] == "roots"]
    assert {m["kept"] for m in lost_by_roots} <= {"roots"}, "a source of lower priority kept its copy"


@pytest.mark.parametrize("name", FIELDS)
def test_every_data_set_has_documents(name: str) -> None:
    if not DEV.exists():
        pytest.skip("real-text check skipped: no schemas/dev beside the repository")
    assert len(load(name)) > 500
