"""How long a run will still take: right where nothing but its paces is to be known, and said."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raypt import storage
from raypt.config_io import validate
from raypt.corpus.cutting import InputFile
from raypt.corpus.manifest import build_manifest
from raypt.progress import Done, TaskProgress
from raypt.run import outlook
from raypt.run.cli import run as command
from raypt.run.config import RunConfig
from raypt.run.open import open_run
from raypt.run.outlook import CPU_S_PER_MB, START_S, Outlook
from raypt.run.stages import planned, timed_stage
from raypt.run_dir import RunDir
from raypt.training.checkpoint.directory import RECORD, seal

MB = 500
STAGES = ["manifest", "quality", "curate", "decide", "dedup", "write"]


def config_of(place: Path, **train: object) -> RunConfig:
    with (place / "in.jsonl").open("wb") as f:
        f.truncate(MB * 10**6)  # of which nothing is read: what counts is its size
    source = {"name": "text", "paths": str(place / "in.jsonl")}
    return validate(RunConfig, {"run": {"dir": str(place / "run")}, "corpus": {"sources": [source]}, "train": train})


def outlook_of(place: Path, job: str = "curate", **train: object) -> Outlook:
    """Of a run whose inputs are known."""
    config = config_of(place, **train)
    return Outlook(config, RunDir(config.run_uri), planned(job, config))


def knowing(ahead: Outlook) -> Outlook:
    """After its manifest, of which it does not count the time."""
    ahead.begins(1)
    files = build_manifest(ahead.config.corpus, ahead.run.uri).files
    ahead.ended(0.0, {"expected_text_bytes": outlook.expected_text_bytes(files)})
    return ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """What time it is: its only item."""
    now = [1e9]
    monkeypatch.setattr(outlook.time, "time", lambda: now[0])
    yield now


def beforehand(stages: list[str]) -> float:
    """Seconds on one CPU by what was measured elsewhere."""
    return sum(START_S.get(name, 1.0) + CPU_S_PER_MB.get(name, 0.0) * MB for name in stages)


def test_before_anything_is_done_it_takes_what_was_measured_elsewhere(tmp_path: Path, clock: list[float]) -> None:
    ahead = knowing(outlook_of(tmp_path))
    ahead.begins(2)
    assert ahead.left() == pytest.approx(beforehand(STAGES[1:]))


def test_of_an_input_that_nobody_looked_at_nothing_is_said(tmp_path: Path, clock: list[float]) -> None:
    ahead = outlook_of(tmp_path)
    ahead.begins(1)
    assert ahead.left() is None


def test_a_stage_that_took_thrice_as_long_has_the_others_expected_to(tmp_path: Path, clock: list[float]) -> None:
    ahead = knowing(outlook_of(tmp_path))
    ahead.begins(3)
    ahead.ended(START_S["curate"] + 3 * CPU_S_PER_MB["curate"] * MB, {"bytes": MB * 1e6})
    ahead.begins(4)
    rest = STAGES[3:]
    slower = sum(START_S.get(name, 1.0) + 3 * CPU_S_PER_MB[name] * MB for name in rest)
    # The ratio has one second of either side in it, so that stages of no length teach nothing.
    assert ahead.left() == pytest.approx(slower, rel=0.03)


def test_a_stage_that_says_how_far_it_is_is_believed(tmp_path: Path, clock: list[float]) -> None:
    ahead = knowing(outlook_of(tmp_path))
    ahead.begins(3)
    clock[0] += 300
    told = Done("curate", 25, 100, 25 / 300, clock[0])
    factor = 1200 / (CPU_S_PER_MB["curate"] * MB)
    rest = sum(START_S.get(name, 1.0) + factor * CPU_S_PER_MB[name] * MB for name in STAGES[3:])
    assert ahead.left(told) == pytest.approx(900 + rest)
    assert ahead.left(Done("tokenize", 1, 100, 1e-6, clock[0])) == ahead.left(), "it goes on beside the stages"


def test_what_an_earlier_start_did_takes_no_time_again(tmp_path: Path, clock: list[float]) -> None:
    ahead = outlook_of(tmp_path)
    for name in STAGES[:3]:
        storage.write_json(ahead.run.path("work", "stages", f"{name}.json"), {})
    knowing(ahead).begins(2)
    assert ahead.left() == pytest.approx(2 * outlook.THERE_S + beforehand(STAGES[3:]))


def test_training_goes_on_at_the_pace_that_it_had(tmp_path: Path) -> None:
    ahead = outlook_of(tmp_path, "pretrain", steps=100)
    record = {"committed": {"step-00000040": [40, None]}}
    uri = ahead.run.path("checkpoints", RECORD)
    storage.write_bytes(uri, seal(record))
    rows = [{"step": step, "step_s": 2.0} for step in range(1, 41)]
    storage.write_bytes(ahead.run.path("metrics.jsonl"), b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    assert outlook.training_seconds(ahead.config, ahead.run) == 60 * 2.0


def test_training_that_never_was_is_expected_as_the_planner_has_it(tmp_path: Path) -> None:
    ahead = outlook_of(tmp_path, "pretrain", steps=100)
    twice = ahead.config.model_copy(update={"train": ahead.config.train.model_copy(update={"steps": 200})})
    once = outlook.training_seconds(ahead.config, ahead.run)
    more = outlook.training_seconds(twice, ahead.run)
    assert once is not None and more is not None and once > 0
    assert more / once == pytest.approx(2, rel=0.5)  # the machine's speed is measured for each of them


def test_where_no_planner_knows_the_strategy_the_way_to_training_is_told(tmp_path: Path, clock: list[float]) -> None:
    ahead = outlook_of(tmp_path, "pretrain", strategy="parameter_server")
    knowing(ahead).begins(2)
    assert not ahead.whole
    assert ahead.left() == pytest.approx(beforehand([*STAGES[1:], "tokenizer"]))


@pytest.mark.parametrize(
    ("name", "kind", "times"),
    [
        ("a.jsonl", "jsonl", 1.0),
        ("part-0.of-9.jsonl.GZ", "jsonl", 3.0),
        ("a.parquet", "parquet", 2.0),
        ("CC-MAIN-1.warc.gz", "warc", 0.75),
        ("warc", "lines", 1.0),
    ],
)
def test_bytes_of_text_are_told_from_names(name: str, kind: str, times: float) -> None:
    file = InputFile("s", f"s3://b.gz/{name}", kind, 1000, "", None)
    assert outlook.expected_text_bytes([file]) == pytest.approx(1000 * times)


def test_a_run_that_was_done_and_has_more_steps_now_still_trains(tmp_path: Path, clock: list[float]) -> None:
    ahead = outlook_of(tmp_path, "pretrain", steps=100)
    for name in ahead.stages:
        storage.write_json(ahead.run.path("work", "stages", f"{name}.json"), {})
    storage.write_bytes(ahead.run.path("checkpoints", RECORD), seal({"committed": {"step-00000040": [40, None]}}))
    storage.write_bytes(ahead.run.path("metrics.jsonl"), b'{"step": 40, "step_s": 2.0}\n')
    knowing(ahead).begins(2)
    others = len(ahead.stages) - 2
    assert ahead.left() == pytest.approx(others * outlook.THERE_S + START_S["train"] + 60 * 2.0)


def test_what_a_resumed_stage_took_teaches_nothing(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlook, "count_of_starts", lambda run: 2)
    ahead = knowing(outlook_of(tmp_path))
    ahead.begins(3)
    ahead.ended(START_S["curate"] + 0.1, {"bytes": MB * 1e6})  # the rest of it was there
    ahead.begins(4)
    assert ahead.left() == pytest.approx(beforehand(STAGES[3:]))


def test_before_nodes_have_come_nothing_is_said_of_how_fast_they_are(tmp_path: Path, clock: list[float]) -> None:
    config = config_of(tmp_path)
    config = config.model_copy(update={"ray": config.ray.model_copy(update={"autoscaling": True})})
    ahead = knowing(Outlook(config, RunDir(config.run_uri), planned("curate", config)))
    ahead.begins(3)
    assert ahead.left() is None
    clock[0] += 60
    assert ahead.left(Done("curate", 10, 100, 10 / 60, clock[0])) is not None


@contextmanager
def at_curate(place: Path) -> Iterator[RunDir]:
    ahead = outlook_of(place)
    with open_run(ahead.config, "curate") as run:
        with timed_stage(run, "manifest") as figures:
            figures["expected_text_bytes"] = MB * 1e6
        with timed_stage(run, "quality"):
            pass
        with timed_stage(run, "curate"):
            yield run


def test_stage_progress_and_status_say_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    at = time.monotonic()
    clock = [at]
    with caplog.at_level("INFO", "raypt"), at_curate(tmp_path) as run:
        progress = TaskProgress("curate", 4, lambda: clock[0])
        clock[0] += 40
        progress.add()
        command(["status", run.uri])
    lines = caplog.messages
    assert any(line.startswith("== curate, 3 of 6 (") and " left of the whole, to " in line for line in lines), lines
    assert any(line.startswith("curate: [#####") and " left; about " in line for line in lines), lines
    assert "  about 2 min" in capsys.readouterr().out
