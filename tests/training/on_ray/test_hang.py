"""A worker that hangs is named and replaced; a driver that is asked to end leaves a checkpoint. One run for both."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from raypt import storage
from raypt.training.checkpoint.directory import latest_checkpoint
from raypt.training.records import merge_samples
from tests.training import tiny_run
from tests.training.drivers import Driver, train_workers

STEPS = 2000
TIMEOUT_S, WARNING_S = 8.0, 2.0
HANGS = "its process hangs"


@dataclass
class Ran:
    out: Path
    log: str
    named_after_s: float
    """Between the stop of a worker and the line that names a rank."""
    replaced_after_s: float
    """Until the stopped worker is gone."""
    steps_when_stopped: int
    """On record when the driver was sent SIGTERM."""
    ended_after_s: float
    status: int


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    root = tmp_path_factory.mktemp("hang")
    tiny_run.prepare(root / "data", STEPS)
    job = tiny_run.Job(
        str(root / "data"), str(root / "out"), steps=STEPS, every=5,
        collective_timeout_s=TIMEOUT_S, stall_warning_s=WARNING_S,
    )  # fmt: skip
    # How long Ray waits for a stopped process to say goodbye.
    os.environ["TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S"] = "3"
    driver = Driver(job)
    del os.environ["TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S"]
    try:
        driver.wait_for_step(8)
        victim = train_workers(driver.process.pid)[1]
        began = time.monotonic()
        victim.send_signal(signal.SIGSTOP)
        driver.wait_for(lambda: HANGS in driver.log.read_text(), timeout_s=60)
        named = time.monotonic() - began
        driver.wait_for(lambda: not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE, timeout_s=120)
        replaced = time.monotonic() - began
        driver.wait_for_step(driver.steps() + 5)
        steps, began = driver.steps(), time.monotonic()
        driver.process.send_signal(signal.SIGTERM)
        status = driver.process.wait(60)
        yield Ran(root / "out", driver.log.read_text(), named, replaced, steps, time.monotonic() - began, status)
    finally:
        driver.kill()


def test_the_rank_that_hangs_is_named_with_its_node_and_what_it_was_at(ran: Ran) -> None:
    line = next(line for line in ran.log.splitlines() if HANGS in line)
    assert "no step for" in line and f"on node {os.uname().nodename} last seen in" in line
    assert "not heard of for" in line
    assert "the other 1 in" in line
    # Silent for three beats of two seconds, seen by the driver's next look.
    assert ran.named_after_s < 12


def test_it_is_replaced_within_the_time_of_a_collective_and_a_shutdown(ran: Ran) -> None:
    assert ran.replaced_after_s < TIMEOUT_S + 25  # ending the group and killing its processes


def test_sigterm_saves_a_checkpoint_and_ends_with_143(ran: Ran) -> None:
    assert ran.status == 143
    assert ran.ended_after_s < 30
    newest = latest_checkpoint(str(ran.out / "checkpoints"))
    assert newest is not None
    assert newest.step >= ran.steps_when_stopped
    assert f"the checkpoint of step {newest.step} is whole" in ran.log


def test_every_sample_up_to_there_was_trained_on_once(ran: Ran) -> None:
    newest = latest_checkpoint(str(ran.out / "checkpoints"))
    assert newest is not None
    merge_samples(str(ran.out))
    samples = storage.read_parquet(str(ran.out / "samples.parquet")).column("sample_index").to_pylist()
    assert samples == list(range(newest.cursor.next_sample))
