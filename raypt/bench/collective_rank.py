"""What one rank of the collectives' benchmark does: check every primitive against its definition, then time it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from raypt.bench.primitives import DTYPES, PRIMITIVES, Kind, Place, Primitive, right
from raypt.training.worker import quiet_libraries

KINDS: tuple[Kind, ...] = ("integers", "floats")
ROUNDS = 5
BYTES_A_ROUND = 16 * 2**20
"""Calls of one round move about this much, at least 1 and at most `MOST_CALLS`: every rank counts alike."""
MOST_CALLS = 50
MEETING_ROUNDS = 200
"""Barriers timed in a row to find out what one costs."""


@dataclass(frozen=True)
class Measured:
    """One primitive at one size, as one rank saw it."""

    primitive: str
    bytes: int
    """Of the largest buffer, rounded down to whole elements for every rank."""
    correct: bool
    """This rank's results, of integers and of floats."""
    seconds: float
    """A call: the median of some rounds; 0 where it cannot be had."""
    lacks: str | None = None
    """Why the backend does not have it."""


def run_rank(device: torch.device, sizes: Sequence[int], primitives: Sequence[str]) -> list[Measured]:
    """In the process group of all ranks, which exists. Collective; the same order of results on every rank."""
    quiet_libraries()
    at = Place(dist.get_rank(), dist.get_world_size(), device)
    out: list[Measured] = []
    for name in primitives:
        primitive = PRIMITIVES[name]
        for size in sizes if primitive.moves else [0]:
            measured = _measure(name, primitive, at, size)
            out.append(measured)
            if measured.lacks is not None:
                break
    return out


def elements(size: int, ranks: int, width: int) -> int:
    """How many elements of `width` bytes fit, equally many for every rank; at least one."""
    return max(1, size // (ranks * width)) * ranks


def _measure(name: str, primitive: Primitive, at: Place, size: int) -> Measured:
    correct = True
    try:
        for kind in KINDS:
            prepared = primitive.prepare(kind, at, elements(size, at.ranks, DTYPES[kind].itemsize))
            prepared.call()
            _synchronise(at)
            correct &= right(prepared)
        if name == "barrier":
            correct &= _meets(at)
    except (RuntimeError, NotImplementedError, ValueError) as e:
        lacks = _is_missing(e)
        if lacks is None:
            raise
        return Measured(name, size, False, 0.0, lacks)
    if not primitive.moves:
        return Measured(name, 0, correct, _median_round(prepared.call, MEETING_ROUNDS // ROUNDS, at))
    count = elements(size, at.ranks, DTYPES["floats"].itemsize)
    nbytes = count * DTYPES["floats"].itemsize
    # A buffer that is summed in place time and again: zeros stay what they are.
    prepared = primitive.prepare("floats", at, count)
    if prepared.result is not None:
        prepared.result.zero_()
    calls = min(max(BYTES_A_ROUND // nbytes, 1), MOST_CALLS)
    return Measured(name, nbytes, correct, _median_round(prepared.call, calls, at))


def _is_missing(e: Exception) -> str | None:
    """What the backend says where it does not have a primitive at all; None for any other failure."""
    message = str(e).splitlines()[0] if str(e) else type(e).__name__
    signs = ("does not support", "not supported", "unsupported", "not implemented", "No backend type associated")
    missing = isinstance(e, NotImplementedError) or any(sign.lower() in message.lower() for sign in signs)
    return message[:200] if missing else None


def _median_round(call: Callable[[], None], calls: int, at: Place) -> float:
    call()
    seconds = []
    for _ in range(ROUNDS):
        dist.barrier()
        _synchronise(at)
        started = time.perf_counter()
        for _ in range(calls):
            call()
        _synchronise(at)
        seconds.append((time.perf_counter() - started) / calls)
    return sorted(seconds)[ROUNDS // 2]


def _meets(at: Place, pause_s: float = 0.05) -> bool:
    """Whether nobody leaves a barrier before the last one has come to it: each rank in turn comes late. The others'
    clocks are their own, so each times how long it stood."""
    ok = True
    for late in range(min(at.ranks, 4)):
        dist.barrier()
        started = time.perf_counter()
        if at.rank == late:
            time.sleep(pause_s)
        dist.barrier()
        # Ranks leave the first barrier some time after one another: half the pause tells waiting from not waiting.
        ok &= time.perf_counter() - started > pause_s / 2
    return ok


def _synchronise(at: Place) -> None:
    if at.device.type == "cuda":
        torch.cuda.synchronize()
