"""The unigram entropy of a store, and what it reads for it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raypt import storage
from raypt.artefact import Identity, Output
from raypt.tokens.store.files import collection, shard_name, write_shard
from raypt.tokens.store.packing import pack
from raypt.training.entropy import RUNS, spread, unigram_entropy

WIDTH, ROWS, VOCABULARY = 65, 400, 64


def write_store(root: str, shards: int) -> None:
    """Uniform tokens: the entropy is ln 64 whatever is read, but for chance."""

    def maker(output: Output) -> dict[str, Any]:
        ids = np.random.default_rng(shard).integers(0, VOCABULARY, ROWS * WIDTH).astype(np.uint16)
        with output.open(shard_name(shard)) as f:
            packed = pack(ids, np.arange(ROWS + 1) * WIDTH, width=WIDTH, pad_id=0)
            placed = write_shard(f, [("web", None, packed)], width=WIDTH)
        return {"sections": [vars(section) for section in placed]}

    for shard in range(shards):
        collection(root).build(shard, Identity("tokens", 1), maker)


def test_of_a_small_store_every_target_counts(tmp_path: Path) -> None:
    write_store(str(tmp_path), 2)
    ids = np.concatenate(
        [np.random.default_rng(s).integers(0, VOCABULARY, ROWS * WIDTH).reshape(ROWS, WIDTH)[:, 1:] for s in (0, 1)]
    )
    p = np.bincount(ids.ravel()) / ids.size
    assert unigram_entropy(str(tmp_path)) == pytest.approx(-(p * np.log(p)).sum(), rel=1e-12)


def test_of_a_large_store_little_more_is_read_than_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    root = "memory://entropy"
    write_store(root, 70)
    read: list[int] = []
    real = storage.read_range

    def counted(uri: str, start: int, length: int) -> bytes:
        data = real(uri, start, length)
        read.append(len(data))
        return data

    monkeypatch.setattr(storage, "read_range", counted)
    wanted = 2560
    # 64 bins of 163,840 draws: the entropy of a sample is below by about 63 / (2 * 163,840) nats.
    assert unigram_entropy(root, max_samples=wanted, little_bytes=0) == pytest.approx(np.log(VOCABULARY), abs=1e-3)
    index = ROWS * (4 + 8 + 8)
    assert sum(read) < 1.5 * wanted * WIDTH * 2 + 64 * (index + 16384 + 1024)
    assert len(read) <= 64 * (2 + RUNS)


@pytest.mark.parametrize(("rows", "wanted"), [(0, 0), (1, 0), (5, 5), (31, 30), (1000, 17), (1000, 999)])
def test_rows_are_spread_without_meeting_twice(rows: int, wanted: int) -> None:
    chosen = spread(rows, wanted)
    assert chosen.size == np.unique(chosen).size <= wanted + RUNS
    assert chosen.size >= wanted - RUNS
    assert not chosen.size or (chosen.min() >= 0 and chosen.max() < rows)
