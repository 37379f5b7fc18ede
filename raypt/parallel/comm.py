"""Process groups and the few collectives the loop needs itself."""

import datetime
import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist

from raypt.parallel import mpi
from raypt.parallel.comm_clock import CLOCK
from raypt.parallel.mesh import Group

Result = TypeVar("Result")


def init_process_group(*, use_gpu: bool, timeout_s: float = 1800.0) -> torch.device:
    """Join the group that the environment describes (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT); one that
    is already there is taken. Returns this rank's device.
    """
    if not dist.is_initialized():
        timeout = datetime.timedelta(seconds=timeout_s)
        dist.init_process_group("nccl" if use_gpu else "gloo", timeout=timeout)
    if not use_gpu:
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def set_timeout(seconds: float) -> None:
    """How long a collective begun from now on may last, in every group of this process, before it fails."""
    if dist.get_backend() == mpi.BACKEND:
        return  # MPI knows none
    timeout = datetime.timedelta(seconds=seconds)
    for group in list(dist.distributed_c10d._world.pg_map):
        dist.distributed_c10d._set_pg_timeout(timeout, group)


def all_gather_ints(values: "np.ndarray[Any, Any]", device: torch.device) -> "np.ndarray[Any, Any]":
    """The int64 vectors of all ranks, (world, len(values)); the same length everywhere."""
    mine = torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64)).to(device)
    world = dist.get_world_size()
    out = torch.empty(world * mine.numel(), dtype=torch.int64, device=device)
    dist.all_gather_into_tensor(out, mine)
    return out.view(world, -1).cpu().numpy()


def all_reduce_floats(values: list[float], device: torch.device) -> list[float]:
    """Element-wise sums over the ranks, in float64: the same bits everywhere."""
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    all_reduce(tensor)
    return tensor.tolist()


def all_reduce(tensor: torch.Tensor, group: Group | None = None) -> None:
    """Sum over the ranks of a group, or over all, in place."""
    with CLOCK:
        dist.all_reduce(tensor, group=group and group.handle)


def all_to_all(out: torch.Tensor, tensor: torch.Tensor) -> None:
    """The i-th part of `tensor` to rank i; what came from rank i as the i-th part of `out`. Both of the same size."""
    with CLOCK:
        dist.all_to_all_single(out, tensor)


def all_gather(out: torch.Tensor, tensor: torch.Tensor) -> None:
    """Every rank's tensor, one after the other."""
    with CLOCK:
        dist.all_gather_into_tensor(out, tensor)


def barrier() -> None:
    dist.barrier()


def broadcast_object(value: Any) -> Any:
    """Rank 0's value on every rank (a small, plain object)."""
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def from_first(read: Callable[[], Result]) -> Result:
    """Collective. What `read` returns on rank 0, on every rank; it is called there alone, and what it raises is raised
    on all of them.
    """
    found: tuple[Result | None, Exception | None] = (None, None)
    if dist.get_rank() == 0:
        try:
            found = read(), None
        except Exception as e:  # the others wait to hear of it
            found = None, e
    value, error = broadcast_object(found)
    if error is not None:
        raise error
    return cast(Result, value)


def gather_objects(value: Any, group: Group | None = None) -> list[Any]:
    """Every rank's value on every rank of a group, or of all (small, plain objects)."""
    out: list[Any] = [None] * (dist.get_world_size() if group is None else group.size)
    dist.all_gather_object(out, value, group=group and group.handle)
    return out
