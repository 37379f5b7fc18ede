"""raypt.run.rehearsal: the kernels of a first run are compiled beside it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raypt.kernel_place import COMPILING, cache_root
from raypt.run.config import RunConfig
from raypt.run.curate import resolve_builtin
from raypt.run.rehearsal import JOBS, PARTS, SETTINGS, mark, rehearsed, settings_of

RUN = """
import sys
from raypt.config_io import validate
from raypt.kernel_place import COMPILING, cache_root
from raypt.run.config import RunConfig
from raypt.run.curate import curate, resolve_builtin
from raypt.run.stream import start_stream, with_heldout
from raypt.run_dir import RunDir

config = {"run": {"dir": sys.argv[1]}, "corpus": {"builtin": {"max_bytes": 4000000, "files": 4}}, "train": {"steps": 4}}
config, run = resolve_builtin(validate(RunConfig, config)), RunDir(sys.argv[1])
curated = curate(config, run, in_process=True)
start_stream(with_heldout(config, curated.documents), run, curated, [2])[2].wait()
"""
"""The default job up to the tokens, in one process."""


def kernels(cache: Path) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in cache.rglob("*.nbi")}


@pytest.mark.slow
def test_nearly_all_that_the_default_job_calls_is_compiled_by_its_rehearsal(tmp_path: Path) -> None:
    cache, config = tmp_path / "cache", resolve_builtin(RunConfig())
    environment = os.environ | {"RAYPT_KERNEL_CACHE": str(cache)}
    for part in PARTS:
        folder = tmp_path / part
        folder.mkdir()
        (folder / SETTINGS).write_text(json.dumps(settings_of(config, part)))
        subprocess.run([sys.executable, "-m", "raypt.run.rehearsal", part, str(folder)], env=environment, check=True)
    had = kernels(cache)
    subprocess.run([sys.executable, "-c", RUN, str(tmp_path / "run")], env=environment, check=True)
    left = kernels(cache) - had
    # What looks for copies among the texts of a classifier, which is not trained here, and what other text would call.
    assert len(left) <= len(had) // 10, left


def test_a_machine_that_has_rehearsed_does_not_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raypt.run.rehearsal.cache_root", lambda: tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for part in PARTS:
        mark(part).touch()
    started: list[object] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *of, **options: started.append(of))
    with rehearsed("pretrain", RunConfig()):
        pass
    assert not started


@pytest.mark.parametrize(("job", "address"), [("pretrain", "ray://other:10001"), ("train-quality", None)])
def test_nothing_is_rehearsed_for_a_cluster_that_is_joined_or_a_job_without_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str, address: str | None
) -> None:
    monkeypatch.setattr("raypt.run.rehearsal.cache_root", lambda: tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    started: list[object] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *of, **options: started.append(of))
    config = RunConfig()
    with rehearsed(job, config.model_copy(update={"ray": config.ray.model_copy(update={"address": address})})):
        pass
    assert not started
    assert job not in JOBS or address


def test_a_rehearsal_ends_with_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYPT_KERNEL_CACHE", str(tmp_path))
    monkeypatch.setattr("raypt.run.rehearsal.cache_root", lambda: tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    made: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def kept(*arguments: object, **options: object) -> "subprocess.Popen[bytes]":
        made.append(real(*arguments, **options))  # type: ignore[call-overload]
        return made[-1]

    monkeypatch.setattr(subprocess, "Popen", kept)
    began = time.monotonic()
    with rehearsed("pretrain", RunConfig()):
        assert [process.poll() for process in made] == [None] * 3
    assert all(process.poll() is not None for process in made)
    assert time.monotonic() - began < 10  # they would take most of a minute


def test_a_home_that_cannot_be_written_to_keeps_no_job_from_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAYPT_KERNEL_CACHE", str(tmp_path / "file" / "kernels"))
    monkeypatch.setattr("raypt.run.rehearsal.cache_root", cache_root.__wrapped__)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with rehearsed("pretrain", RunConfig()):
        worked = True
    assert worked


def test_a_rehearsal_is_told_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raypt.run.rehearsal.cache_root", lambda: tmp_path / "cache")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    said: list[str] = []
    monkeypatch.setattr("raypt.run.rehearsal.say_once", said.append)
    with rehearsed("curate", RunConfig()):
        assert [len(list(folder.iterdir())) for folder in tmp_path.glob("raypt-rehearsal-*")] == [len(JOBS["curate"])]
    assert not list(tmp_path.iterdir())
    assert said == [COMPILING]
