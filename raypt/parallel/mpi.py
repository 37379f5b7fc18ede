"""A process group of torch.distributed over MPI (mpi4py): torch's wheels have no MPI of their own.

Sites with `mpirun` and a scheduler start training by it; on some of them MPI alone knows the interconnect. Blocking
calls are MPI's blocking ones; asynchronous calls are its non-blocking ones, which many libraries advance only inside
other MPI calls. MPI has no timeouts: when a rank dies, `mpirun` ends the others. CPU tensors only.
"""

# torch calls these methods with an options object; its stubs describe overloads for people.
# mypy: disable-error-code="override"
import contextlib
import functools
import os
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import TCPStore

from raypt.errors import UserError

BACKEND = "mpi4py"
"""The name under which torch.distributed has it; its own "mpi" is the one that wheels lack."""

Finish = Callable[[], None]


def world() -> Any:
    """mpi4py's communicator of all processes. Raises UserError where there is no mpi4py, or no MPI library for it."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as e:
        raise UserError(f"MPI: {e}; install it with: pip install 'raypt[mpi]' (and an MPI library: openmpi)") from None
    return MPI.COMM_WORLD


def init_process_group() -> None:
    """Join the group of all processes that `mpirun` started, as ranks in MPI's order; sets RANK, WORLD_SIZE and
    LOCAL_RANK as torchrun does. Collective.

    Raises:
        UserError: this process was started in another way, or mpi4py is missing.
    """
    comm = world()
    _refuse_alone(comm.size)
    from mpi4py import MPI

    local = comm.Split_type(MPI.COMM_TYPE_SHARED)
    os.environ |= {"RANK": str(comm.rank), "WORLD_SIZE": str(comm.size), "LOCAL_RANK": str(local.rank)}
    local.Free()
    if BACKEND.upper() not in dist.Backend._plugins:
        dist.Backend.register_backend(BACKEND, _create, extended_api=True, devices=["cpu"])
    # torch keeps the names of groups in a store; the tensors do not pass through it.
    host = comm.bcast(MPI.Get_processor_name())
    store = TCPStore(host, 0, comm.size, is_master=True, wait_for_workers=False) if comm.rank == 0 else None
    port = comm.bcast(store and store.port)
    if store is None:
        store = TCPStore(host, port, comm.size, is_master=False)
    dist.init_process_group(BACKEND, store=store, rank=comm.rank, world_size=comm.size)


def _refuse_alone(size: int) -> None:
    """A process without `mpirun` is a world of one, and N of them would all take themselves for the first."""
    launchers = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID", "MPI_LOCALNRANKS")
    if size == 1 and not any(name in os.environ for name in launchers):
        raise UserError("MPI: this process was not started by MPI; start it as: mpirun -n N python -m ...")


def abort(code: int = 1) -> None:
    """End all processes of the job, without waiting for them: what a rank does that cannot go on. Alone, or without
    MPI, there is nobody to end.
    """
    with contextlib.suppress(UserError):
        if world().size > 1:
            world().Abort(code)


def _create(options: Any, _: Any) -> "MpiGroup":
    comm, ranks = world(), list(options.global_ranks_in_group)
    if not ranks:
        return MpiGroup(comm.Dup())
    # Only the members meet, whatever groups others make at the same time; the tag keeps two of them apart.
    tag = zlib.crc32(str(options.group_id).encode()) % 32768  # MPI grants tags up to 32767
    return MpiGroup(comm.Create_group(comm.group.Incl(ranks), tag))


class MpiWork(dist.Work):
    """The handle of a call: its request, the buffers that must live until then, and what is left to do after it."""

    def __init__(self, request: Any = None, keep: Any = None, finish: Finish | None = None) -> None:
        super().__init__()
        self._request, self._keep, self._finish = request, keep, finish
        if request is None:
            self._end()

    def wait(self, timeout: Any = None) -> bool:
        """Until the call is complete. MPI has no timeouts: `timeout` is not looked at."""
        if self._request is not None:
            self._request.Wait()
            self._end()
        return True

    def is_completed(self) -> bool:
        if self._request is not None and self._request.Test():
            self._end()
        return self._request is None

    def is_success(self) -> bool:
        return self.is_completed()

    def exception(self) -> Any:
        return None

    def _end(self) -> None:
        self._request = self._keep = None
        finish, self._finish = self._finish, None
        if finish is not None:
            finish()


class MpiGroup(dist.ProcessGroup):
    """The ranks of one communicator. The methods are those that torch.distributed's functions call."""

    def __init__(self, comm: Any) -> None:
        super().__init__(comm.rank, comm.size)  # type: ignore[call-arg]
        self.comm = comm
        self._label = ""

    # What torch asks a group about itself.

    def getBackendName(self) -> str:
        return BACKEND

    def getRank(self) -> int:
        return int(self.comm.rank)

    def getSize(self) -> int:
        return int(self.comm.size)

    def getGroupName(self) -> str:
        return self._label

    def setGroupName(self, group_name: str) -> None:
        self._label = group_name

    def getGroupDesc(self) -> str:
        return "MPI"

    def setGroupDesc(self, group_desc: str) -> None:
        pass

    def shutdown(self) -> None:
        """Collective over the group."""
        from mpi4py import MPI

        if self.comm != MPI.COMM_NULL:
            self.comm.Free()

    # Collectives.

    def broadcast(self, tensors: Sequence[Tensor], opts: Any) -> dist.Work:
        return self._call("bcast", opts, moved(tensors[0]), root=opts.rootRank)

    def allreduce(self, tensors: Sequence[Tensor], opts: Any) -> dist.Work:
        from mpi4py import MPI

        buffer, op, finish = self._summed(tensors[0], opts.reduceOp)
        return self._call("allreduce", opts, MPI.IN_PLACE, buffer, op=op, finish=finish)

    def allreduce_coalesced(self, tensors: Sequence[Tensor], opts: Any) -> dist.Work:
        return _all([self.allreduce([t], opts) for t in tensors])

    def reduce(self, tensors: Sequence[Tensor], opts: Any) -> dist.Work:
        from mpi4py import MPI

        buffer, op, finish = self._summed(tensors[0], opts.reduceOp)
        root = opts.rootRank
        if self.comm.rank == root:
            return self._call("reduce", opts, MPI.IN_PLACE, buffer, op=op, root=root, finish=finish)
        return self._call("reduce", opts, buffer, None, op=op, root=root)

    def all_gather_single(self, output: Tensor, input: Tensor, opts: Any) -> dist.Work:
        return self._call("allgather", opts, moved(input), moved(output))

    def all_gather_single_coalesced(self, outputs: Sequence[Tensor], inputs: Sequence[Tensor], opts: Any) -> dist.Work:
        return _all([self.all_gather_single(o, i, opts) for o, i in zip(outputs, inputs, strict=True)])

    def allgather(self, outputs: Sequence[Sequence[Tensor]], inputs: Sequence[Tensor], opts: Any) -> dist.Work:
        flat, scatter = _collected(outputs[0], inputs[0])
        return self._call("allgather", opts, moved(inputs[0].contiguous()), moved(flat), finish=scatter)

    def gather(self, outputs: Sequence[Sequence[Tensor]], inputs: Sequence[Tensor], opts: Any) -> dist.Work:
        mine, root = moved(inputs[0].contiguous()), opts.rootRank
        if self.comm.rank != root:
            return self._call("gather", opts, mine, None, root=root)
        flat, scatter = _collected(outputs[0], inputs[0])
        return self._call("gather", opts, mine, moved(flat), root=root, finish=scatter)

    def scatter(self, outputs: Sequence[Tensor], inputs: Sequence[Sequence[Tensor]], opts: Any) -> dist.Work:
        flat = None
        if self.comm.rank == opts.rootRank:
            flat = moved(torch.cat([t.reshape(-1) for t in inputs[0]]))
        return self._call("scatter", opts, flat, moved(outputs[0]), root=opts.rootRank)

    def reduce_scatter_single(self, output: Tensor, input: Tensor, opts: Any) -> dist.Work:
        into, op, finish = self._summed(output, opts.reduceOp)
        out_of, _, _ = self._summed(input, opts.reduceOp)
        return self._call("reduce_scatter_block", opts, out_of, into, op=op, finish=finish)

    def reduce_scatter_single_coalesced(
        self, outputs: Sequence[Tensor], inputs: Sequence[Tensor], opts: Any
    ) -> dist.Work:
        return _all([self.reduce_scatter_single(o, i, opts) for o, i in zip(outputs, inputs, strict=True)])

    def reduce_scatter(self, outputs: Sequence[Tensor], inputs: Sequence[Sequence[Tensor]], opts: Any) -> dist.Work:
        into, op, finish = self._summed(outputs[0], opts.reduceOp)
        out_of, _, _ = self._summed(torch.cat([t.reshape(-1) for t in inputs[0]]), opts.reduceOp)
        counts = [t.numel() for t in inputs[0]]
        return self._call("reduce_scatter", opts, out_of, into, recvcounts=counts, op=op, finish=finish)

    def all_to_all_single(
        self, output: Tensor, input: Tensor, output_split_sizes: list[int], input_split_sizes: list[int], opts: Any
    ) -> dist.Work:
        row = [t.numel() // max(t.size(0), 1) * t.element_size() for t in (output, input)]
        counts = [
            [n * r for n in sizes] if sizes else [t.numel() * t.element_size() // self.comm.size] * self.comm.size
            for t, r, sizes in zip((output, input), row, (output_split_sizes, input_split_sizes), strict=True)
        ]
        return self._call("alltoallv", opts, [moved(input), counts[1]], [moved(output), counts[0]])

    def alltoall(self, outputs: Sequence[Tensor], inputs: Sequence[Tensor], opts: Any) -> dist.Work:
        out = torch.empty(sum(t.numel() for t in outputs), dtype=inputs[0].dtype)
        flat = torch.cat([t.reshape(-1) for t in inputs])
        counts = [[t.numel() * t.element_size() for t in tensors] for tensors in (inputs, outputs)]

        def scatter() -> None:
            for tensor, piece in zip(outputs, out.split([t.numel() for t in outputs]), strict=True):
                tensor.copy_(piece.view_as(tensor))

        return self._call("alltoallv", opts, [moved(flat), counts[0]], [moved(out), counts[1]], finish=scatter)

    def barrier(self, opts: Any) -> dist.Work:
        return self._call("barrier", opts)

    # Between two ranks: torch waits itself where the call is to block.

    def send(self, tensors: Sequence[Tensor], dst: int, tag: int) -> dist.Work:
        buffer = moved(tensors[0])
        return MpiWork(self.comm.Isend(buffer, dest=dst, tag=tag), buffer)

    def recv(self, tensors: Sequence[Tensor], src: int, tag: int) -> dist.Work:
        buffer = moved(tensors[0])
        return MpiWork(self.comm.Irecv(buffer, source=src, tag=tag), buffer)

    def _call(self, name: str, opts: Any, *buffers: Any, finish: Finish | None = None, **options: Any) -> dist.Work:
        if not getattr(opts, "asyncOp", False):
            getattr(self.comm, name.capitalize())(*buffers, **options)
            return MpiWork(finish=finish)
        return MpiWork(getattr(self.comm, f"I{name}")(*buffers, **options), (buffers, options), finish)

    def _summed(self, tensor: Tensor, op: Any) -> tuple[Any, Any, Finish | None]:
        """(the buffer as numbers, MPI's operation on them, what is left to do afterwards)."""
        from mpi4py import MPI

        finish = None
        if op == dist.ReduceOp.AVG:
            op, size = dist.ReduceOp.SUM, self.comm.size

            def finish() -> None:
                tensor.div_(size)

        name = next((name for known, name in _OPERATIONS.items() if op == known), None)
        if name is None:
            raise NotImplementedError(f"{op} is not supported over MPI")
        flat = _flat(tensor)
        if flat.dtype in _HALVES:
            return flat.view(torch.int16).numpy(), _half_operation(flat.dtype, name), finish
        return flat.numpy(), getattr(MPI, name), finish


_OPERATIONS = {
    dist.ReduceOp.SUM: "SUM",
    dist.ReduceOp.PRODUCT: "PROD",
    dist.ReduceOp.MIN: "MIN",
    dist.ReduceOp.MAX: "MAX",
}
"""MPI's names."""
_ON_TENSORS: dict[str, Callable[..., Tensor]] = {
    "SUM": torch.add,
    "PROD": torch.mul,
    "MIN": torch.minimum,
    "MAX": torch.maximum,
}
_HALVES = (torch.bfloat16, torch.float16)


@functools.cache
def _half_operation(dtype: torch.dtype, name: str) -> Any:
    """An operation of MPI on 16-bit floats, which MPI has no type for: they travel as 16-bit integers."""
    from mpi4py import MPI

    function = _ON_TENSORS[name]

    def combine(a: Any, b: Any, _: Any) -> None:
        if len(a):
            into = torch.frombuffer(b, dtype=dtype)
            function(torch.frombuffer(a, dtype=dtype), into, out=into)

    return MPI.Op.Create(combine, commute=True)


def _flat(tensor: Tensor) -> Tensor:
    if not tensor.is_contiguous():
        raise ValueError("MPI: a tensor that is sent or received must be contiguous")
    return tensor.detach().view(-1)


def moved(tensor: Tensor) -> Any:
    """A tensor's memory as bytes: where nothing is added, its type does not matter."""
    return _flat(tensor).view(torch.uint8).numpy()


def _collected(outputs: Sequence[Tensor], mine: Tensor) -> tuple[Tensor, Finish]:
    """(room for one piece of each rank, the function that hands the pieces out)."""
    if any(t.numel() != mine.numel() for t in outputs):
        raise NotImplementedError("pieces of different sizes are not supported over MPI")
    flat = torch.empty(mine.numel() * len(outputs), dtype=mine.dtype)

    def hand_out() -> None:
        for output, piece in zip(outputs, flat.split(mine.numel()), strict=True):
            output.copy_(piece.view_as(output))

    return flat, hand_out


def _all(works: Sequence[dist.Work]) -> dist.Work:
    class _Many(MpiWork):
        def wait(self, timeout: Any = None) -> bool:
            for work in works:
                work.wait()
            return True

        def is_completed(self) -> bool:
            return all(work.is_completed() for work in works)

    return _Many()
