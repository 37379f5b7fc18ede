"""`--dry-run` says what the job then does, and leaves no trace."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from raypt.errors import UserError
from raypt.run.config import RunConfig
from raypt.run.curate import curate
from raypt.run.forecast import forecast
from raypt.run.job import run_job
from raypt.run.open import open_run
from tests.run.test_tampering import config_of, make, write_inputs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished data side with its tokens."""
    root = tmp_path_factory.mktemp("made")
    write_inputs(root / "in")
    make(root)
    return root


def changed(config: RunConfig, section: str, **values: Any) -> RunConfig:
    tree = config.model_dump(mode="json")
    node = tree
    for step in section.split("."):
        node = node[step]
    node.update(values)
    return RunConfig.model_validate(tree)


def files(root: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(root.rglob("*"))}


def test_a_new_run_is_told_from_its_inputs_and_makes_no_directory(tmp_path: Path) -> None:
    write_inputs(tmp_path / "in")
    said = forecast("pretrain", config_of(tmp_path))
    assert "a new run" in said
    assert re.search(r"text: 3 files, \d+ kB, \d+ shards", said)
    assert re.search(r"tagged documents: \d+ to be made", said)
    assert "training: 2 steps" in said
    assert "1 training workers 0.5" in said
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_used_as_it_is_and_not_touched(made: Path) -> None:
    before = files(made)
    said = forecast("pretrain", config_of(made))
    assert "with the settings of the last start" in said
    for what in ("tagged documents", "decisions"):
        assert re.search(rf"{what}: \d+ shards as they are$", said, re.MULTILINE), said
    assert re.search(r"curated text: \d+ shards as they are$", said, re.MULTILINE)
    assert re.search(r"token shards: \d+ as they are", said)
    assert files(made) == before


def test_a_threshold_decides_anew_and_tags_nothing_as_the_run_then_does(
    made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = files(made)
    other = changed(config_of(made), "curation.gopher_quality", mean_word_length_min=3.5)
    said = forecast("curate", other)
    assert "curation.gopher_quality.mean_word_length_min: was 3.0, now 3.5" in said
    assert re.search(r"tagged documents: \d+ shards as they are$", said, re.MULTILINE), said
    assert re.search(r"decisions: \d+ anew \(.*mean_word_length_min: was 3.0, is 3.5", said), said
    assert files(made) == before
    with caplog.at_level(logging.INFO, "raypt"), open_run(other, "test") as run:
        curate(other, run, in_process=True)
    assert "mean_word_length_min: was 3.0, now 3.5" in caplog.text
    assert re.search(r"\d+ of \d+ decided are made anew", caplog.text)
    assert "tagged are made anew" not in caplog.text


def test_another_stage_tags_anew(made: Path) -> None:
    config = config_of(made)
    said = forecast("curate", changed(config, "curation", stages=[*config.curation.stages, "c4"]))
    assert re.search(r"tagged documents: \d+ anew", said), said


def test_what_the_run_would_refuse_is_refused(made: Path) -> None:
    with pytest.raises(UserError, match=r"run\.seed: was 0, now 9"):
        forecast("pretrain", changed(config_of(made), "run", seed=9))


def test_a_mistyped_path_ends_with_2_and_leaves_the_corrected_command_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for option in (["--dry-run"], []):
        assert run_job("curate", "raypt.run.data_side", "", [*option, "corpus.sources[0].paths=txet/*.jsonl"]) == 2
        assert "no file matches 'txet/*.jsonl'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_job_without_a_forecast_says_which_have_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_job("export", "raypt.run.export", "", ["--dry-run"]) == 2
    assert "pretrain, curate, tokenize" in capsys.readouterr().err
