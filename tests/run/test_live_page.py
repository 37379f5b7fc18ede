"""The page of a run that goes on: when it is written, what it says, and that nothing depends on it."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raypt.config_io import validate
from raypt.run import live_page
from raypt.run.config import RunConfig
from raypt.run.live_page import LivePage
from raypt.run.open import is_empty, open_run
from raypt.run.report import build_report
from raypt.run.stages import timed_stage

LONG_S = 60.0


def config_of(place: Path) -> RunConfig:
    return validate(RunConfig, {"run": {"dir": str(place)}, "corpus": {"sources": [{"name": "a", "paths": "a.jsonl"}]}})


def until(true: Callable[[], object]) -> None:
    """Wait for what a thread does; a minute is for a machine that does much else."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < LONG_S
        time.sleep(0.01)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_page, "APART_S", 0.01)
    monkeypatch.setattr(live_page, "SHARE", 1.0)


@pytest.mark.usefixtures("at_once")
def test_a_page_is_there_after_a_stage_while_the_run_goes_on_and_says_so(tmp_path: Path) -> None:
    place = tmp_path / "run"
    with open_run(config_of(place), "pretrain") as run:
        with timed_stage(run, "curate"):
            (place / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": 3.0}) + "\n")
            assert not (place / "report.html").exists()
        until((place / "report.html").exists)
        assert "<b>Running" in (place / "report.html").read_text()
        with timed_stage(run, "train"):
            page = build_report(run, "run")
    assert re.search(r"<b>Running, in stage train for \d+ s</b>, at 20\d\d-\d\d-\d\d \d\d:\d\d UTC", page)
    last = (place / "report.html").read_text()
    assert "<b>Done</b> at 20" in last and "Running" not in last


def test_pages_come_apart_from_each_other_and_without_a_stage_after_a_while() -> None:
    written: list[float] = []
    page = LivePage(lambda: b"x", lambda _: written.append(time.monotonic()), every_s=LONG_S, apart_s=0.3)
    page.start()
    for _ in range(3):
        page.stage_ended()
    until(lambda: written)
    page.stage_ended()
    until(lambda: len(written) == 2)
    page.stop()
    assert written[1] - written[0] >= 0.3
    assert len(written) == 2
    page = LivePage(lambda: b"x", lambda _: written.append(time.monotonic()), every_s=0.02, apart_s=0.01)
    page.start()
    until(lambda: len(written) >= 4)
    page.stop()


def test_a_page_that_takes_long_comes_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_page, "SHARE", 0.25)
    begun: list[float] = []

    def build() -> bytes:
        begun.append(time.monotonic())
        time.sleep(0.1)
        return b"x"

    page = LivePage(build, lambda _: None, every_s=0.0, apart_s=0.01)
    page.start()
    until(lambda: len(begun) == 3)
    page.stop()
    assert begun[2] - begun[1] >= 0.1 / 0.25


@pytest.mark.usefixtures("at_once")
def test_a_page_that_cannot_be_made_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "run"
    monkeypatch.setattr("raypt.run.report.build_report", lambda *_, **__: 1 / 0)
    with open_run(config_of(place), "curate") as run:
        with timed_stage(run, "curate"):
            (place / "ledger.json").write_text("{}")
        until(lambda: "report.html could not be written: ZeroDivisionError" in caplog.text)
        with timed_stage(run, "dedup"):
            pass
    assert not (place / "report.html").exists()


@pytest.mark.usefixtures("at_once")
def test_an_empty_run_gets_no_page_and_may_change_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_page, "EVERY_S", 0.01)
    with open_run(config_of(tmp_path / "run"), "curate") as run:
        time.sleep(0.1)
        assert is_empty(run)


def test_no_page_of_a_running_one_replaces_the_last(tmp_path: Path) -> None:
    """A page in the making when the run ends is not written."""
    written: list[bytes] = []
    pages: list[LivePage] = []

    def build() -> bytes:
        pages[0]._ended.set()
        return b"running"

    pages.append(LivePage(build, written.append, every_s=0.0, apart_s=0.0))
    pages[0].start()
    pages[0].stop()
    assert written == []
