"""A corpus of a wanted size, made of a smaller one."""

import json
from itertools import islice
from pathlib import Path

import pyarrow as pa

from raypt.bench.corpus import OTHER, copies, enlarge
from raypt.dedup import DedupConfig, deduplicate
from tests.dedup.reference import documents, write_shards

TEXTS = [" ".join(f"{chr(97 + (i * j) % 26)}{chr(97 + j % 26)}word" for j in range(200)) for i in range(1, 5)]


def test_it_has_the_size_and_the_original_documents_first(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    count = enlarge([str(tmp_path / "in.jsonl")], tmp_path / "out", 20_000)
    rows = [json.loads(x) for path in (tmp_path / "out").iterdir() for x in path.read_text().splitlines()]
    rows.sort(key=lambda row: int(row["id"]))
    assert len(rows) == count
    assert [row["text"] for row in rows[:4]] == TEXTS
    size = sum(len(row["text"].encode()) for row in rows)
    assert 20_000 <= size < 20_000 + max(len(row["text"]) for row in rows)


def test_a_copy_has_as_many_words_of_which_a_quarter_are_others() -> None:
    copy = list(islice(copies(TEXTS), 5))[4]
    before, after = TEXTS[0].split(), copy.split()
    assert len(before) == len(after)
    changed = sum(a != b for a, b in zip(before, after, strict=True)) / len(before)
    assert OTHER / 2 < changed < OTHER * 1.5


def test_no_copy_is_removed_as_a_duplicate(tmp_path: Path) -> None:
    table: pa.Table = documents(list(islice(copies(TEXTS), 20)))
    config = DedupConfig(max_removed_fraction=None)
    shards = write_shards(tmp_path / "docs", [table])
    result = deduplicate(shards, config, str(tmp_path / "work"), str(tmp_path / "out"))
    assert result.account.kept.documents == 20
