"""Which of the errors that end a group of processes is the cause: the others only saw somebody leave.

A rank that raises, is killed or hangs takes the others with it: their collectives end with a lost connection or a
time-out. All of these errors reach the driver; what a person needs is the one that would have come without the others.
"""

import re
import socket
import sysconfig
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

_RAYPT = f"{Path(__file__).parent}/"

GRACE_S = 3.0
"""That a rank which only lost the others holds its error back. Gloo tells it of a death at once, while Ray takes some
tenths of a second to see it: the controller, which ends the group at the first error, is to hear of the cause first."""

LEFT = re.compile(
    "|".join(
        (
            # gloo (transport/tcp/pair.cc, unbound_buffer.cc, rendezvous/context.cc; torch's ProcessGroupGloo)
            r"Connection closed by peer",
            r"Connection (was )?(reset by peer|refused|timed out|likely closed)",
            r"broken pipe",
            r"Timed out waiting \d+ ?ms for (recv|send)",
            r"Application timeout caused pair closure",
            r"connectFullMesh failed",
            r"timed out in monitoredBarrier",
            # torch's store (TCPStore.cpp, socket.cpp)
            r"got 0 bytes",
            r"Socket Timeout",
            r"recvValue(WithTimeout)? failed on",
            r"wait timeout after \d+ ?ms",
            r"waitForInput: socket .* timed out",
            r"(client|server) socket .*has timed out",
            r"Timed out after \d+ seconds waiting for clients",
            # NCCL (NCCLUtils.cpp, ProcessGroupNCCL.cpp, and NCCL's own misc/socket.cc)
            r"remote process exited or there was a network error",
            r"ncclRemoteError",
            r"Connection closed by remote peer",
            r"communicator was aborted",
            r"collective operation timeout",
            # Ray Train's barriers
            r"collective operation timed out",
        )
    ),
    re.IGNORECASE,
)
"""What a rank is told when another has left, or does not come, in the words of the libraries."""
_DIED = {
    "WorkerHealthCheckFailedError",
    "WorkerHealthCheckTimeoutError",
    "RayActorError",
    "WorkerCrashedError",
    "NodeDiedError",
    "OutOfMemoryError",
    "ObjectLostError",
}


class Distance(IntEnum):
    """How far an error is from the cause: of several, the nearest is told."""

    OWN = 0
    """The process's own: it would have failed alone."""
    DIED = 1
    """A process is gone, or hangs: Ray says so, for it can say nothing itself."""
    SERVER = 2
    """A parameter server is gone or does not answer, maybe because the process that started it has failed."""
    LEFT = 3
    """A connection to another rank is lost, or a collective has timed out."""


@dataclass(frozen=True)
class Origin:
    """Where an error comes from; an exception that travels between processes loses its traceback and its chain."""

    rank: int
    node: str
    at: float
    """Unix time."""
    place: str | None
    """See `place`."""
    distance: Distance


def inner(error: BaseException) -> BaseException | None:
    """What an error was made of: through what Ray wraps errors in, and what it was raised from."""
    for name in ("cause", "health_check_failure", "controller_failure"):
        if isinstance(found := getattr(error, name, None), BaseException):
            return found
    return error.__cause__


def distance(error: BaseException) -> Distance:
    """Of an error of one process. One that came up while a consequence was dealt with is a consequence too."""
    if (known := origin(error)) is not None:
        return known.distance
    far, todo, seen = Distance.OWN, [error], set[int]()
    while todo:
        at = todo.pop()
        if id(at) in seen:
            continue
        seen.add(id(at))
        far = max(far, _distance(at))
        hidden = None if at.__suppress_context__ else at.__context__
        todo += [e for e in (inner(at), hidden) if e is not None]
    return far


def _distance(error: BaseException) -> Distance:
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "ServerLost" in kinds:
        return Distance.SERVER
    if of_ray(error) & _DIED:
        return Distance.DIED
    # Only torch's errors and Ray Train's are of the group: a storage resets connections, too.
    of_the_group = {"RuntimeError", "CollectiveTimeoutError"} & kinds and "RayTaskError" not in kinds
    return Distance.LEFT if of_the_group and LEFT.search(str(error)) else Distance.OWN


def of_ray(error: BaseException) -> set[str]:
    """The names of the kinds of Ray's errors that this is of: some of torch's have the same."""
    return {kind.__name__ for kind in type(error).__mro__ if kind.__module__.partition(".")[0] == "ray"}


def origin(error: BaseException) -> Origin | None:
    """Where an error comes from, if a rank has said it."""
    found = error.__dict__.get("raypt_origin")
    return found if isinstance(found, Origin) else None


def first(failures: Mapping[int, BaseException]) -> int:
    """The rank whose error is the cause: the nearest to one, of these the earliest, of these the lowest rank's.

    Args:
        failures: at least one, by rank.
    """

    def order(rank: int) -> tuple[Distance, float, int]:
        known = origin(failures[rank])
        return distance(failures[rank]), 0.0 if known is None else known.at, rank

    return min(failures, key=order)


@contextmanager
def of_rank(rank: int) -> Iterator[None]:
    """Errors of the block say that they are this rank's; those that are none of its own come later (`GRACE_S`)."""
    try:
        yield
    except Exception as e:
        far = distance(e)
        e.__dict__["raypt_origin"] = Origin(rank, socket.gethostname(), time.time(), place(e), far)
        if far > Distance.DIED:
            time.sleep(GRACE_S)
        raise


def place(error: BaseException) -> str | None:
    """`file:line, in function` of the innermost frame that is raypt's or the user's own, or of the innermost one."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return None
    libraries = tuple(f"{sysconfig.get_path(name)}/" for name in ("purelib", "platlib", "stdlib"))
    own = [f for f in frames if f.filename.startswith(_RAYPT) or not f.filename.startswith(libraries)]
    frame = (own or list(frames))[-1]
    return f"{frame.filename}:{frame.lineno}, in {frame.name}"
