"""The frame of a job: exit statuses, and signals that unwind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raypt.run.job import parse_arguments, terminable

ROOT = Path(__file__).parents[2]


def start(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.run.sleeper", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, env=os.environ | environment)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_unwinds_through_handlers_of_errors_and_has_its_status(number: int, status: int) -> None:
    job = start()
    assert job.stdout is not None
    assert job.stdout.readline() == "began\n"
    job.send_signal(number)
    out, err = job.communicate(timeout=30)
    assert job.returncode == status
    assert out == "unwound\n"
    assert err.splitlines()[-1].endswith("the same command resumes")
    assert "Traceback" not in err


def test_a_second_sigterm_ends_at_once() -> None:
    job = start("run.name=slow")
    assert job.stdout is not None
    assert job.stdout.readline() == "began\n"
    job.send_signal(signal.SIGTERM)
    assert job.stdout.readline() == "unwound\n"
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=10) == -signal.SIGTERM


def test_a_mistake_is_its_message_alone() -> None:
    job = start("run.name=mistake")
    err = job.communicate(timeout=30)[1]
    assert job.returncode == 2
    assert err.strip().endswith("mend me")
    assert "Traceback" not in err


def test_a_failure_is_one_message_that_names_the_place_and_the_file_with_the_traceback() -> None:
    job = start("run.name=fails")
    err = job.communicate(timeout=30)[1]
    assert job.returncode == 1
    assert "RuntimeError: a bug\n" in err
    assert "tests/run/sleeper.py:" in err
    assert "Traceback" not in err
    kept = Path(err.split("the whole: ")[1].splitlines()[0])
    assert kept.read_text().startswith("Traceback (most recent call last)")
    kept.unlink()


def test_a_failure_while_debugging_has_its_traceback() -> None:
    job = start("run.name=fails", RAYPT_LOG_LEVEL="DEBUG")
    assert "Traceback (most recent call last)" in job.communicate(timeout=30)[1]


def test_an_unknown_log_level_is_a_mistake() -> None:
    job = start(RAYPT_LOG_LEVEL="LOUD")
    assert "RAYPT_LOG_LEVEL=LOUD: levels are" in job.communicate(timeout=30)[1]
    assert job.returncode == 2


def test_the_handler_of_sigterm_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with terminable():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_arguments_are_taken_apart_in_any_order() -> None:
    found = parse_arguments(["a.b=1", "--config=f.yaml", "--print-config", "c=--help"])
    assert (found.config_uri, found.overrides, found.print_config, found.help) == (
        "f.yaml",
        ["a.b=1", "c=--help"],
        True,
        None,
    )
    assert parse_arguments(["--help", "train"]).help == "train"
    assert parse_arguments(["--help", "a.b=1"]).help == ""
