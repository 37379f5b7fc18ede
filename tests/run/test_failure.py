"""What the terminal says of a failure."""

import errno
import json
from pathlib import Path

import pytest
import ray

from raypt import ray_output
from raypt.run.failure import message, place, root_cause


@pytest.fixture(autouse=True)
def no_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ray_output, "last", None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def caught(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as e:
        return e


def test_the_first_error_of_a_chain_is_told() -> None:
    inner = caught(KeyError("text"))
    error = caught(RuntimeError("outer"), caught(ValueError("middle"), inner))
    assert root_cause(error) is inner
    assert message(error).startswith("KeyError: 'text'")


def test_a_chain_that_bites_its_tail_ends() -> None:
    one, other = RuntimeError("one"), RuntimeError("other")
    one.__cause__, other.__cause__ = other, one
    assert root_cause(one) in (one, other)


def test_a_full_disk_has_its_sentence() -> None:
    said = message(caught(OSError(errno.ENOSPC, "No space left on device", "/data/run/part-0")))
    assert "'/data/run/part-0'" in said
    assert "the disk is full: make room" in said


def test_a_process_that_died_has_its_sentence() -> None:
    assert "a process of the cluster died" in message(caught(ray.exceptions.WorkerCrashedError()))


def test_what_a_task_raised_is_told_and_not_its_remote_traceback() -> None:
    error = ray.exceptions.RayTaskError("work", "Traceback (most recent call last):\n  ...", ZeroDivisionError("by 0"))
    assert message(caught(error.as_instanceof_cause())).splitlines()[0] == "ZeroDivisionError: by 0"


def test_the_place_is_in_our_code_and_not_in_the_library_that_raised() -> None:
    try:
        json.loads("{")
    except ValueError as e:
        assert f"{__file__}:" in (place(e) or "")


def test_the_whole_is_kept_below_what_ray_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "driver.log"
    log.write_text("noise\n")
    monkeypatch.setattr(ray_output, "last", log)
    assert message(caught(ValueError("x"))).endswith(f"the whole: {log}")
    assert log.read_text().startswith("noise\nTraceback")


def test_a_signed_address_is_told_without_its_signature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "driver.log"
    log.touch()
    monkeypatch.setattr(ray_output, "last", log)
    said = message(caught(OSError("https://host/a.jsonl?X-Amz-Signature=5ecret is gone")))
    assert "https://host/a.jsonl" in said
    assert "5ecret" not in said + log.read_text()
