"""Of the errors that end a group of processes, which is told."""

import pickle
import time

import pytest
import torch.distributed as dist
from ray.exceptions import ActorDiedError, RayTaskError
from ray.train.v2._internal.exceptions import BroadcastCollectiveTimeoutError, WorkerHealthCheckFailedError

from raypt import causes
from raypt.causes import Distance, Origin, distance, first, of_rank, origin
from raypt.parallel.server.cluster import ServerLost

GLOO = [
    "[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:31612",
    "[../third_party/gloo/gloo/transport/tcp/pair.cc:553] Read error [10.0.0.2]:4711: Connection reset by peer",
    "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] writev [10.0.0.2]:4711: Broken pipe",
    "[../third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 600000ms for recv operation to "
    "complete",
    "[../third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:133] Timed out waiting 8000ms for send operation to "
    "complete",
    "Application timeout caused pair closure",
    "Gloo connectFullMesh failed with [../third_party/gloo/gloo/transport/tcp/pair.cc:144] no error",
]
STORE = [
    "failed to recv, got 0 bytes. Connection was likely closed. Did the remote server shutdown or crash?",
    "recvValue failed on SocketImpl(fd=66, addr=[localhost]:36454, remote=[localhost]:29500): Connection reset by peer",
    "wait timeout after 300000ms, keys: /default_pg/0//cpu//0/0",
    "The client socket has timed out after 300000ms while trying to connect to (10.0.0.1, 29500).",
]
NCCL = [
    "NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:77, remote process exited or there was a "
    "network error, NCCL version 2.26.2\nncclRemoteError: A call failed possibly due to a network error or a remote "
    "process exiting prematurely.\nLast error:\nsocketPollConnect: connect returned Connection refused",
    "NCCL communicator was aborted on rank 2. Original reason for failure was: [Rank 2] Watchdog caught collective "
    "operation timeout: WorkNCCL(SeqNum=6, OpType=ALLREDUCE, Timeout(ms)=600000) ran for 600081 milliseconds",
    "[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=6, OpType=ALLREDUCE, NumelIn=1, "
    "NumelOut=1, Timeout(ms)=600000) ran for 600017 milliseconds before timing out.",
]


def died() -> WorkerHealthCheckFailedError:
    return WorkerHealthCheckFailedError("A worker health check failed.", ActorDiedError())


@pytest.mark.parametrize("said", GLOO + STORE + NCCL)
def test_what_libraries_say_of_another_that_left_is_told_of_no_rank_that_has_its_own(said: str) -> None:
    error = dist.DistBackendError(said) if said in NCCL else RuntimeError(said)
    assert distance(error) == Distance.LEFT
    assert first({0: error, 1: ValueError("broken")}) == 1


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        dist.DistBackendError("NCCL error in: ProcessGroupNCCL.cpp:1, unhandled cuda error, NCCL version 2.26.2"),
        ConnectionResetError(104, "Connection reset by peer"),
        OSError("s3://bucket/part-0: the read timed out: Broken pipe"),
        RuntimeError("the ranks of a replica do not train on the same samples at 7"),
    ],
    ids=repr,
)
def test_what_a_rank_would_have_met_alone_is_its_own(error: Exception) -> None:
    assert distance(error) == Distance.OWN


def test_memory_that_torch_ran_out_of_is_no_process_that_ray_ended() -> None:
    import torch

    assert distance(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")) == Distance.OWN


def test_a_dead_process_is_told_before_those_that_lost_it() -> None:
    lost = ServerLost("a parameter server is gone, asked for weights")
    assert first({0: RuntimeError(GLOO[0]), 1: lost, 2: died()}) == 2
    assert first({0: RuntimeError(GLOO[0]), 1: lost}) == 1


def test_a_barrier_of_ray_train_that_somebody_did_not_reach_is_a_consequence() -> None:
    assert first({0: BroadcastCollectiveTimeoutError(600.0, [1], 600.0), 1: died()}) == 1


def test_what_is_raised_for_a_lost_connection_is_one_too() -> None:
    with pytest.raises(ValueError) as raised:
        try:
            raise RuntimeError(GLOO[0])
        except RuntimeError:
            raise ValueError("not all gradients came")  # noqa: B904
    assert distance(raised.value) == Distance.LEFT


def test_what_a_task_of_a_rank_raised_is_judged_by_its_cause() -> None:
    task = RayTaskError("work", "Traceback ...: Connection reset by peer", ZeroDivisionError("by 0"))
    assert distance(task.as_instanceof_cause()) == Distance.OWN


def test_where_all_lost_a_connection_the_earliest_is_told() -> None:
    errors = {rank: RuntimeError(GLOO[0]) for rank in range(3)}
    assert first(errors) == 0
    for rank, at in enumerate([9.0, 5.0, 7.0]):
        errors[rank].__dict__["raypt_origin"] = Origin(rank, "a", at, None, Distance.LEFT)
    assert first(errors) == 1


def test_an_error_says_where_it_is_from_also_in_another_process() -> None:
    with pytest.raises(ValueError) as raised, of_rank(3):
        raise ValueError("broken")
    known = origin(pickle.loads(pickle.dumps(raised.value)))
    assert known is not None
    assert (known.rank, known.distance) == (3, Distance.OWN)
    assert known.place is not None and __file__ in known.place


def test_one_who_only_lost_the_others_speaks_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    for error in (ValueError("broken"), RuntimeError(GLOO[0])):
        with pytest.raises(type(error)), of_rank(0):
            raise error
    assert waited == [causes.GRACE_S]
