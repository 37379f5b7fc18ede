"""Freezing the inputs: which files, which shards, which names."""

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raypt.corpus.config import CorpusConfig, SourceConfig
from raypt.corpus.cutting import FilePiece, InputFile, Shard, shard_bytes_for
from raypt.corpus.formats.table import format_of
from raypt.corpus.manifest import Manifest, build_manifest, name_sources
from raypt.corpus.reader import read_shard
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
        ("http://h/x.jsonl.gz?X-Amz-Signature=a.b", "jsonl"),
        ("s3://b/x?y.csv", "csv"),
        ("x.TSV.ZSTD", "csv"),
        ("x.arrow", "arrow"),
        ("x.tgz", "tar"),
        ("x.htm", "html"),
        ("Makefile", "code"),
        ("x.py.bz2", "code"),
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


def test_the_manifest_of_many_files_is_small_and_quickly_read() -> None:
    n = 20_000
    paths = (f"s3://bucket/set/part-{i:06d}.jsonl.gz" for i in range(n))
    files = tuple(InputFile("s", path, "jsonl", 1 << 20, '"5d41402abc4b2a76"', None) for path in paths)
    shards = tuple(Shard(i, "s", (FilePiece(i, 0, None, 1 << 20),)) for i in range(n))
    manifest = Manifest((SourceConfig(name="s", paths=("s3://bucket/set",)),), files, shards)
    text = json.dumps(manifest.to_json())
    assert len(text) < 150 * n  # 35 MB for 10^5 files were 350 a file
    start = time.process_time()
    assert Manifest.from_json(json.loads(text), "manifest.json") == manifest
    # 0.3 s on an idle core; a step quadratic in the files would take minutes.
    assert time.process_time() - start < 10


@pytest.mark.parametrize("damage", ["a shard less", "another size", "no pieces", "a list"])
def test_a_damaged_manifest_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    _jsonl(tmp_path / "a.jsonl", 50)
    value: Any = _manifest(tmp_path, 200, paths=str(tmp_path / "a.jsonl")).to_json()
    if damage == "a shard less":
        value["shards"]["source"].pop()
        value["shards"]["pieces"].pop()
    elif damage == "another size":
        value["files"]["size"][0] += 1
    elif damage == "no pieces":
        del value["pieces"]
    else:
        value = [value]
    with pytest.raises(UserError, match=r"run/manifest\.json is damaged"):
        Manifest.from_json(value, "run/manifest.json")


def test_a_size_that_makes_millions_of_shards_is_refused_with_one_that_does_not() -> None:
    with pytest.raises(UserError, match=r"corpus\.shard_bytes=1 cuts 1000000000000 bytes .* at least 238419 keeps"):
        shard_bytes_for(10**12, 1)
    assert 10**16 // shard_bytes_for(10**16, None) <= 1 << 22
    assert shard_bytes_for(10**9, None) == 10**9 // 64


def test_a_big_json_file_is_cut_only_if_it_has_an_object_a_line(tmp_path: Path) -> None:
    rows = [{"text": f"document {i}"} for i in range(1000)]
    (tmp_path / "array.json").write_text(json.dumps(rows))
    (tmp_path / "lines.json").write_text("".join(json.dumps(r) + "\n" for r in rows))
    manifest = _manifest(tmp_path, 5000, paths=[str(tmp_path / "array.json"), str(tmp_path / "lines.json")])
    assert [len([p for s in manifest.shards for p in s.pieces if p.file == f]) for f in (0, 1)] == [1, 5]


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.parquet"])
def test_a_source_of_empty_files_has_shards_and_no_documents(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    manifest = _manifest(tmp_path, paths=str(tmp_path / name))
    assert [f.size for f in manifest.files] == [0]
    assert len(manifest.shards) == 1


def test_pieces_of_a_file_have_the_files_bytes(tmp_path: Path) -> None:
    _jsonl(tmp_path / "a.jsonl", 500)
    pq.write_table(pa.table({"text": ["word " * 200] * 100}), tmp_path / "x.parquet", row_group_size=10)
    for name in ("a.jsonl", "x.parquet"):
        manifest = _manifest(tmp_path, 1000, paths=str(tmp_path / name))
        total = sum(p.size for s in manifest.shards for p in s.pieces)
        assert total == manifest.files[0].size


def test_where_on_a_column_that_no_parquet_file_has_is_a_mistake_at_the_start(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["x"], "kind": ["news"]}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"corpus\.sources\[0\]\.where\.knid: no file has a column 'knid'"):
        _manifest(tmp_path, paths=str(tmp_path / "x.parquet"), where={"knid": "news"})


def test_two_sources_carry_one_column_as_one_type(tmp_path: Path) -> None:
    _jsonl(tmp_path / "a.jsonl", 1)
    source = {"paths": str(tmp_path / "a.jsonl"), "columns": {"score": "id"}}
    sources = [{**source, "name": "a"}, {**source, "name": "b", "column_types": {"score": "int"}}]
    config = CorpusConfig.model_validate({"sources": sources})
    manifest = build_manifest(config, str(tmp_path))
    with pytest.raises(UserError, match="the column 'score' is string in one source and int in 'b'"):
        list(read_shard(manifest, 0, config, str(tmp_path)))
