"""Freezing the inputs: which files, which shards, which names."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raypt.corpus.config import CorpusConfig, SourceConfig
from raypt.corpus.formats.table import format_of
from raypt.corpus.manifest import Manifest, build_manifest, name_sources
from raypt.corpus.unchanged import check_unchanged
from raypt.errors import UserError


def _jsonl(path: Path, n: int) -> None:
    path.write_text("".join(json.dumps({"id": i, "text": f"document {i} of {path.name}"}) + "\n" for i in range(n)))


def _manifest(tmp_path: Path, shard_bytes: int = 1 << 20, **source: object) -> Manifest:
    config = CorpusConfig(sources=(SourceConfig.model_validate(source),), shard_bytes=shard_bytes)
    return build_manifest(config, str(tmp_path / "run"))


def test_small_files_are_grouped_and_big_ones_split(tmp_path: Path) -> None:
    _jsonl(tmp_path / "big.jsonl", 1000)
    for i in range(3):
        _jsonl(tmp_path / f"small{i}.jsonl", 5)
    manifest = _manifest(tmp_path, 10_000, paths=[str(tmp_path / "*.jsonl")])
    assert len(manifest.files) == 4
    assert len([s for s in manifest.shards if s.pieces[0].file == 0]) > 3
    assert len({p.file for p in manifest.shards[-1].pieces}) >= 2
    pieces = [p for s in manifest.shards for p in s.pieces]
    assert sorted({p.file for p in pieces}) == [0, 1, 2, 3]


def test_parquet_is_split_by_row_group(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["word " * 200] * 100}), tmp_path / "x.parquet", row_group_size=10)
    manifest = _manifest(tmp_path, 1, paths=str(tmp_path / "x.parquet"))
    assert [(s.pieces[0].start, s.pieces[0].stop) for s in manifest.shards] == [(i, i + 1) for i in range(10)]
    assert manifest.files[0].rows == 100


def test_the_same_files_give_the_same_manifest(tmp_path: Path) -> None:
    _jsonl(tmp_path / "a.jsonl", 5)
    one = _manifest(tmp_path, paths=str(tmp_path / "a.jsonl"))
    assert one.fingerprint == _manifest(tmp_path, paths=str(tmp_path / "a.jsonl")).fingerprint
    assert Manifest.from_json(json.loads(json.dumps(one.to_json())), "manifest.json") == one


def test_a_changed_input_is_refused_on_resume(tmp_path: Path) -> None:
    _jsonl(tmp_path / "a.jsonl", 5)
    manifest = _manifest(tmp_path, paths=str(tmp_path / "a.jsonl"))
    check_unchanged(manifest, str(tmp_path))
    _jsonl(tmp_path / "a.jsonl", 6)
    with pytest.raises(UserError, match=r"a\.jsonl had \d+ bytes, now has \d+"):
        check_unchanged(manifest, str(tmp_path))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x.jsonl", "jsonl"),
        ("x.json.gz", "jsonl"),
        ("x.JSONL.zst", "jsonl"),
        ("x.parquet", "parquet"),
        ("x.warc.wet.gz", "warc"),
        ("x.txt.gz", "text"),
        ("x.pdf", None),
        ("x.gz", None),
    ],
)
def test_the_format_is_told_by_the_name(name: str, expected: str | None) -> None:
    assert format_of(name) == expected


def test_a_missing_path_names_its_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"corpus\.sources\[0\]\.paths\[0\]: no file matches .*nothing"):
        _manifest(tmp_path, paths=str(tmp_path / "nothing*.jsonl"))


def test_a_mistake_in_another_list_of_sources_names_that_list(tmp_path: Path) -> None:
    config = CorpusConfig(sources=(SourceConfig(paths=(str(tmp_path / "none.jsonl"),)),))
    with pytest.raises(UserError, match=r"curation\.quality\.raw\[0\]\.paths\[0\]: no file matches"):
        build_manifest(config, str(tmp_path), "curation.quality.raw")


def test_an_unknown_format_asks_for_one(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_text("x")
    with pytest.raises(UserError, match=r"corpus\.sources\[0\]\.format: cannot tell the format of .*x\.dat"):
        _manifest(tmp_path, paths=str(tmp_path / "x.dat"))


def test_parquet_without_the_text_column_lists_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"content": ["x"]}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"sources\[0\]\.text_field: .*no column 'text'; its columns are content"):
        _manifest(tmp_path, paths=str(tmp_path / "x.parquet"))


def test_a_file_that_is_not_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(gzip.compress(b"not parquet at all"))
    with pytest.raises(UserError, match=r"x\.parquet is not a readable Parquet file"):
        _manifest(tmp_path, paths=str(tmp_path / "x.parquet"))


def test_sources_get_distinct_names_from_their_paths() -> None:
    sources = tuple(SourceConfig(paths=(p,)) for p in ("data/cc/*.gz", "other/cc/*.gz", "s3://b/文书.jsonl"))
    assert [s.name for s in name_sources(sources)] == ["cc", "cc-2", "文书"]
