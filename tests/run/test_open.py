"""Opening a run directory: who may, with which settings, and what a mistake leaves behind."""

import os
from pathlib import Path

import pytest

from raypt import storage
from raypt.errors import UserError
from raypt.run.config import RunConfig, RunSection
from raypt.run.open import is_empty, open_run
from raypt.run_dir import RunDir


def config(tmp_path: Path, **section: object) -> RunConfig:
    return RunConfig(run=RunSection(dir=str(tmp_path / "run"), **section))


def test_an_empty_run_takes_other_settings(tmp_path: Path) -> None:
    with open_run(config(tmp_path), "curate"):
        pass
    with open_run(config(tmp_path, seed=7), "curate") as run:
        assert is_empty(run)
        assert b"seed: 7" in storage.read_bytes(run.config)


@pytest.mark.parametrize("made", ["manifest.json", "input/a.jsonl", "work/tagged/shard-00000.parquet", "dedup/x"])
def test_a_run_that_made_something_keeps_its_settings(tmp_path: Path, made: str) -> None:
    with open_run(config(tmp_path), "curate") as run:
        storage.write_bytes(run.path(made), b"{}")
    with pytest.raises(UserError, match=r"run\.seed: was 0, now 7"), open_run(config(tmp_path, seed=7), "curate"):
        raise AssertionError("opened")
    with open_run(config(tmp_path), "curate") as run:
        assert b"seed: 0" in storage.read_bytes(run.config)


def test_a_second_job_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with open_run(config(tmp_path), "pretrain") as run:
        with pytest.raises(UserError, match="pretrain on"), open_run(config(tmp_path, seed=7), "curate"):
            raise AssertionError("opened")
        assert b"seed: 0" in storage.read_bytes(run.config)
    assert storage.listdir(run.path("work", "lease")) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match=r"run\.dir: .* cannot be written"), open_run(config(tmp_path), "curate"):
        raise AssertionError("opened")


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match=r"run\.dir: .* cannot be written"), open_run(config(tmp_path), "curate"):
        raise AssertionError("opened")


def test_the_directory_is_free_again_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_run(config(tmp_path), "curate"):
        raise ZeroDivisionError
    with open_run(config(tmp_path), "curate") as run:
        assert RunDir(run.uri).uri == run.uri
