"""Stopping a job and starting a second one beside it, as a user sees it: status, message, what goes on afterwards."""

import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.jobs.helpers import TINY, run_job, start_job

OPTIONS = [*TINY, "curation.quality.reference=[]", "curation.stages=[language, gopher_quality]"]
ENDS_WITHIN_S = 30
"""From SIGTERM to the end of the process with its Ray: a third of what clouds and Kubernetes give at least."""


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, int, float, set[str]]:
    """A job that was told to end while it curated: its directory, what a second job beside it said, its status, how
    long its end took, and the processes it left."""
    work = tmp_path_factory.mktemp("stopped")
    process = start_job("curate.py", *OPTIONS, cwd=work)
    run, deadline = work / "runs" / "default", time.monotonic() + 120
    while not (run / "manifest.json").exists():
        assert process.poll() is None, (work / "killed.log").read_text()[-4000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second = run_job("curate.py", *OPTIONS, cwd=work)
    assert second.returncode == 2, second.stderr
    children = psutil.Process(process.pid).children(recursive=True)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    status = process.wait(timeout=120)
    took = time.monotonic() - begun
    _, alive = psutil.wait_procs(children, timeout=10)
    return work, second.stderr, status, took, {p.name() for p in alive}


def test_a_second_job_on_the_directory_is_refused_with_the_first_named(stopped: tuple) -> None:
    assert "another job works in this run directory: curate on " in stopped[1]


def test_sigterm_ends_a_job_with_143_in_time_and_one_line(stopped: tuple) -> None:
    work, _, status, took, left = stopped
    log = (work / "killed.log").read_text()
    assert status == 143, log[-4000:]
    assert took < ENDS_WITHIN_S
    assert log.splitlines()[-1] == "raypt curate: terminated (SIGTERM); the same command resumes"
    assert not left
    assert not list((work / "runs" / "default" / "work" / "lease").iterdir())


def test_the_same_command_goes_on(stopped: tuple) -> None:
    done = run_job("curate.py", *OPTIONS, cwd=stopped[0])
    assert done.returncode == 0, done.stderr
    assert (stopped[0] / "runs" / "default" / "ledger.json").exists()
