"""What the terminal says of a failure: one message, and where the rest is."""

import errno
import tempfile
import traceback
from pathlib import Path

from raypt import ray_output
from raypt.causes import Distance, Origin, distance, first, inner, of_ray, origin, place
from raypt.outside import redact

_SYSTEM = {
    errno.ENOSPC: "the disk is full: make room, or give a run.dir (and a temporary directory: TMPDIR, RAY_TMPDIR) that "
    "has some",
    errno.EDQUOT: "the quota of this user on the disk is used up",
    errno.EROFS: "the file system can only be read",
    errno.EACCES: "this user may not do that there",
    errno.EIO: "the disk or the network file system answers with errors: look at its machine's log",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n 65536)",
}
_RAY = {
    "OutOfMemoryError": "a machine ran out of memory and Ray ended the process: give the stage fewer actors a node "
    "(ray.max_actors) or larger nodes",
    "OutOfDiskError": "a machine's disk is full where Ray spills objects: make room, or start Ray with another "
    "RAY_TMPDIR",
    "NodeDiedError": "a machine of the cluster is gone",
    "ActorDiedError": "a process of the cluster died (out of memory, a native crash, a machine that is gone)",
    "WorkerCrashedError": "a process of the cluster died (out of memory, a native crash, a machine that is gone)",
    "ObjectLostError": "results were lost with the machine that held them",
    "ActorUnavailableError": "a process of the cluster does not answer",
    "RayChannelError": "the connection to a process of the cluster broke",
    "GetTimeoutError": "the cluster did not answer in time",
}


def root_cause(error: BaseException) -> BaseException:
    """The first error of a chain, through what Ray wraps errors in; of several workers, that which ended the others."""
    return _traced(error)[0]


def _traced(error: BaseException) -> tuple[BaseException, int | None, Origin | None]:
    """The root cause, the rank that it is of, and where it comes from."""
    seen: set[int] = set()
    rank, known = None, None
    while id(error) not in seen:
        seen.add(id(error))
        known = origin(error) or known
        workers = getattr(error, "worker_failures", None)
        if isinstance(workers, dict) and workers:
            rank = first(workers)
            follow = workers[rank]
        else:
            follow = inner(error)
        if follow is None:
            break
        error = follow
    return error, rank, known


def remedy(error: BaseException) -> str | None:
    """What to do about an error that is the machines' and not the code's."""
    if isinstance(error, OSError) and error.errno in _SYSTEM:
        return _SYSTEM[error.errno]
    if isinstance(error, MemoryError):
        return "this machine ran out of memory"
    if distance(error) == Distance.LEFT:
        return (
            "this only says that another worker left or did not answer, and that one has said nothing: its process was "
            "killed, its machine is gone, or the network between them failed"
        )
    kinds = of_ray(error)
    return next((said for kind, said in _RAY.items() if kind in kinds), None)


def message(error: BaseException) -> str:
    """The error in a few lines. The whole, with everything that Ray said, is written to the file that it names."""
    cause, rank, known = _traced(error)
    lines = [line for line in str(cause).splitlines() if line.strip()]
    head = lines[0] if lines else ""
    if "Traceback (most recent call last)" in str(cause):  # an error that could not be brought here as itself
        head = lines[-1]
    out = [redact(f"{type(cause).__name__}: {head}")[:1000]]
    if said := remedy(cause):
        out.append(said)
    if rank is not None:
        out.append(f"rank {rank}" + (f" on node {known.node}" if known else ""))
    if where := place(cause) or (known and known.place):
        out.append(f"at {where}")
    out.append(f"the whole: {keep(error)}")
    return "\n  ".join(out)


def keep(error: BaseException) -> Path:
    """Write the traceback below what Ray printed, or to a file of its own; returns the file."""
    text = redact("".join(traceback.format_exception(error)))
    if ray_output.last is not None and ray_output.last.exists():
        path = ray_output.last
    else:
        with tempfile.NamedTemporaryFile("w", prefix="raypt-failure-", suffix=".log", delete=False) as made:
            path = Path(made.name)
    with path.open("a") as f:
        f.write(text)
    return path
