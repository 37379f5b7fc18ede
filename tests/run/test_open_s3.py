"""A run directory on an object store: what is wrong with it ends a job with status 2 before its work starts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from raypt import storage
from raypt.run.job import run_job
from tests.s3 import S3Server, forget_clients, s3_server

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        storage.write_bytes(server.uri("in", "a.jsonl"), b'{"text": "a text"}\n')
        yield server


def curate(*overrides: str) -> int:
    return run_job("curate", "raypt.run.data_side", "", list(overrides))


def test_a_missing_bucket_is_named_and_not_made(s3: S3Server, capsys: pytest.CaptureFixture[str]) -> None:
    source = f"corpus.sources[0].paths={s3.uri('in')}"
    assert curate("run.dir=s3://raypt-no-such/runs/a", source) == 2
    said = capsys.readouterr().err
    assert "run.dir: s3://raypt-no-such/runs/a cannot be written" in said
    assert "bucket does not exist" in said
    with pytest.raises(FileNotFoundError):
        storage.filesystem("s3://raypt-no-such")[0].ls("raypt-no-such", refresh=True)


def test_inputs_are_looked_at_before_the_run_directory_is_made(
    s3: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert curate(f"run.dir={s3.uri('runs', 'typo')}", f"corpus.sources[0].paths={s3.uri('ni')}") == 2
    assert "no file" in capsys.readouterr().err
    assert storage.listdir(s3.uri("runs", "typo")) == []


def test_a_run_without_credentials_is_told_so(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a text"}\n')
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(key)
    for key in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(key, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    forget_clients()
    assert curate(f"run.dir={s3.uri('runs', 'b')}", f"corpus.sources[0].paths={tmp_path}/a.jsonl") == 2
    said = capsys.readouterr().err
    assert f"run.dir: {s3.uri('runs', 'b')}: " in said
    assert "Unable to locate credentials" in said
    forget_clients()
