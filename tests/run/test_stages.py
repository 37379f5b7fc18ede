"""The stages of a run: each is told by its place among those that its job has."""

import json
import re
from pathlib import Path

import pytest

from raypt.config_io import validate
from raypt.run.cli import run as command
from raypt.run.config import RunConfig
from raypt.run.curate import curate
from raypt.run.open import open_run
from raypt.run.stages import planned, timed_stage


def config_of(place: Path, **sections: object) -> RunConfig:
    (place / "in.jsonl").write_text("".join(json.dumps({"text": f"a text, number {i}"}) + "\n" for i in range(5)))
    corpus = {"sources": [{"name": "text", "paths": str(place / "in.jsonl")}]}
    return validate(RunConfig, {"run": {"dir": str(place / "run")}, "corpus": corpus, **sections})


def places(log: pytest.LogCaptureFixture) -> list[str]:
    """`name, which of how many`, as the lines of stages have it."""
    return [found[1] for m in log.messages if (found := re.match(r"== (\w+(?:, \d+ of \d+)?)", m))]


@pytest.mark.parametrize("dedup", [True, False])
def test_the_stages_that_were_planned_are_those_that_come(
    dedup: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(tmp_path, curation={"stages": []}, dedup={"enabled": dedup})
    with caplog.at_level("INFO", "raypt"), open_run(config, "curate") as run:
        curate(config, run, in_process=True)
    names = planned("curate", config)
    assert ("dedup" in names) == dedup
    assert places(caplog) == [f"{name}, {i} of {len(names)}" for i, name in enumerate(names, 1)]
    assert re.search(
        r"== write, .*took \d+\.\d s, \d+ s so far, about \d+ s left of the whole, to \d\d:\d\d\)", caplog.text
    )


def test_a_job_that_trains_ends_with_training_and_export(tmp_path: Path) -> None:
    assert planned("pretrain", config_of(tmp_path))[-3:] == ["tokenizer", "train", "export"]
    exports = {"export": {"formats": ["nanogpt"]}}
    assert planned("tokenize", config_of(tmp_path, tokens=exports))[-2:] == ["tokenize", "export tokens"]


def test_a_stage_that_nobody_planned_has_no_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "raypt"), open_run(config_of(tmp_path), "evaluate") as run, timed_stage(run, "other"):
        pass
    assert places(caplog) == ["other"]


def test_status_tells_the_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_run(config_of(tmp_path), "pretrain") as run, timed_stage(run, "manifest"):
        command(["status", run.uri])
    assert "at: manifest, stage 1 of 9, for 0 s" in capsys.readouterr().out
