"""raypt.storage and the corpus on Google Cloud Storage's API. `python -m tests.jobs.on_gcs` runs the whole main job."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from raypt import storage
from raypt.corpus.config import CorpusConfig, SourceConfig
from raypt.corpus.manifest import build_manifest
from raypt.corpus.unchanged import check_unchanged
from raypt.errors import UserError
from tests.corpus.reading import read_all
from tests.gcs import gcs_server

pytest.importorskip("gcsfs")
pytest.importorskip("gcp_storage_emulator")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with gcs_server(tmp_path_factory.mktemp("gcs")) as uri:
        yield uri


def test_files_are_written_listed_read_and_removed(bucket: str) -> None:
    data = bytes(range(256)) * 400
    storage.write_bytes(f"{bucket}/d/a.bin", data)
    with storage.atomic_write(f"{bucket}/d/b.bin") as f:
        f.write(data[:10])
    assert storage.list_sizes(f"{bucket}/d") == {"a.bin": len(data), "b.bin": 10}
    assert storage.read_bytes(f"{bucket}/d/a.bin") == data
    assert storage.read_range(f"{bucket}/d/a.bin", 5, 1000) == data[5:1005]
    assert storage.read_if_there(f"{bucket}/d/none.bin") is None
    assert storage.is_file(f"{bucket}/d/b.bin")
    assert not storage.exists(f"{bucket}/none")
    storage.remove_file(f"{bucket}/d/b.bin")
    assert storage.listdir(f"{bucket}/d") == ["a.bin"]
    storage.remove(f"{bucket}/d")
    assert storage.listdir(f"{bucket}/d") == []


def test_a_table_is_read_by_its_columns(bucket: str) -> None:
    table = pa.table({"a": list(range(1000)), "b": [f"row {i}" for i in range(1000)]})
    storage.write_parquet(f"{bucket}/t.parquet", table)
    assert storage.read_parquet(f"{bucket}/t.parquet", ["b"]).equals(table.select(["b"]))


def test_a_missing_bucket_is_not_made(bucket: str) -> None:
    with pytest.raises(OSError):
        storage.write_bytes("gs://raypt-none/a.bin", b"x")
    assert not storage.exists("gs://raypt-none/a.bin")


def test_a_data_set_is_read_and_its_change_noticed(tmp_path: Path, bucket: str) -> None:
    texts = [f"The river of page {i} moves slowly. " * 20 for i in range(40)]
    for part in range(2):
        lines = [json.dumps({"text": text}) for text in texts[20 * part : 20 * part + 20]]
        storage.write_bytes(f"{bucket}/in/{part}.jsonl", "\n".join(lines).encode())
    out = read_all(tmp_path, {"name": "s", "paths": f"{bucket}/in/*.jsonl"}, shard_bytes=5000)
    assert out.texts == texts
    source = SourceConfig(name="s", paths=(f"{bucket}/in",))
    manifest = build_manifest(CorpusConfig(sources=(source,)), str(tmp_path / "run"))
    check_unchanged(manifest, str(tmp_path / "run"))
    storage.write_bytes(f"{bucket}/in/0.jsonl", storage.read_bytes(f"{bucket}/in/0.jsonl").replace(b"s", b"t", 1))
    with pytest.raises(UserError, match="was changed"):
        check_unchanged(manifest, str(tmp_path / "run"))
