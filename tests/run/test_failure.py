"""What the terminal says of a failure."""

import errno
import json
import os
from pathlib import Path

import pytest
import ray
import torch
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import WorkerGroupError

from raypt import ray_output
from raypt.causes import of_rank
from raypt.run.failure import _RAY, message, place, remedy, root_cause


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


CLOSED = "[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:31612"


def test_of_several_workers_the_one_that_ended_the_others_is_told_with_its_rank_and_node() -> None:
    with pytest.raises(ZeroDivisionError) as raised, of_rank(1):
        raise ZeroDivisionError("in the MLP")
    raised.value.__traceback__ = None  # as it comes from another process
    said = message(WorkerGroupError("...", {0: RuntimeError(CLOSED), 1: raised.value})).splitlines()
    assert said[0] == "ZeroDivisionError: in the MLP"
    assert said[1] == f"  rank 1 on node {os.uname().nodename}"
    assert said[2].startswith(f"  at {__file__}:")


def test_a_worker_that_was_killed_is_told_before_those_that_lost_it() -> None:
    died = WorkerHealthCheckFailedError("A worker health check failed.", ray.exceptions.ActorDiedError())
    said = message(WorkerGroupError("...", {0: RuntimeError(CLOSED), 1: died}))
    assert said.startswith("ActorDiedError: ")
    assert "a process of the cluster died" in said and "rank 1" in said


def test_where_none_has_more_to_say_than_that_another_left_that_is_said() -> None:
    assert "another worker left or did not answer" in message(WorkerGroupError("...", {0: RuntimeError(CLOSED)}))


def test_memory_that_torch_ran_out_of_is_no_process_that_ray_ended() -> None:
    assert remedy(torch.OutOfMemoryError("CUDA out of memory")) is None


def test_a_full_disk_has_its_sentence() -> None:
    said = message(caught(OSError(errno.ENOSPC, "No space left on device", "/data/run/part-0")))
    assert "'/data/run/part-0'" in said
    assert "the disk is full: make room" in said


RAYS = {
    "OutOfMemoryError": lambda: ray.exceptions.OutOfMemoryError("worker killed"),
    "OutOfDiskError": lambda: ray.exceptions.OutOfDiskError("no room to spill"),
    "NodeDiedError": lambda: ray.exceptions.NodeDiedError("node 10.0.0.7 has died"),
    "ActorDiedError": lambda: ray.exceptions.ActorDiedError(),
    "WorkerCrashedError": lambda: ray.exceptions.WorkerCrashedError(),
    "ObjectLostError": lambda: ray.exceptions.ObjectLostError("ff" * 28, None, ""),
    "ActorUnavailableError": lambda: ray.exceptions.ActorUnavailableError("no answer", b"a" * 16),
    "RayChannelError": lambda: ray.exceptions.RayChannelError("broken"),
    "GetTimeoutError": lambda: ray.exceptions.GetTimeoutError("60 s"),
}
"""Errors of the cluster as Ray makes them, by name."""


@pytest.mark.parametrize("name", _RAY)
def test_what_happens_to_a_cluster_has_its_sentence(name: str) -> None:
    assert f"\n  {_RAY[name]}\n" in message(caught(RAYS[name]()))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ray.exceptions.OwnerDiedError("ff" * 28, None, ""), "results were lost with the machine that held them"),
        (ray.exceptions.ActorUnschedulableError("never"), None),
    ],
    ids=["a kind of it", "another"],
)
def test_a_sentence_is_of_a_kind_of_error_and_of_no_other(error: Exception, sentence: str | None) -> None:
    assert remedy(error) == sentence


def test_a_lost_node_is_told_through_what_ray_wraps_it_in() -> None:
    inner = ray.exceptions.NodeDiedError("node 10.0.0.7 has died")
    said = message(caught(ray.exceptions.RayTaskError("work", "Traceback (most recent call last):", inner)))
    assert "node 10.0.0.7 has died" in said
    assert "a machine of the cluster is gone" in said


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
