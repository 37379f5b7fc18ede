"""The collective primitives: what each is called with, its result by definition, and the bandwidths of nccl-tests.

Rank r's input is `a_i * (r + 1) + r * r` (integers), or `a_i * (r + 1) / n` (floats), with pseudo-random `a_i`: what
the ranks' inputs add up to is known in closed form, so that checking costs a rank its buffer once, however many there
are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

Kind = Literal["integers", "floats"]
DTYPES: dict[Kind, torch.dtype] = {"integers": torch.int64, "floats": torch.float32}
ROOT = 0
"""Of broadcast, scatter, gather, reduce."""


@dataclass(frozen=True)
class Place:
    """Who calls."""

    rank: int
    ranks: int
    device: torch.device


@dataclass(frozen=True)
class Expected:
    """A result by definition."""

    values: Tensor
    """In float64 or int64."""
    tolerance: Tensor | None = None
    """Of a sum of floats: they may be added in any order. None: equal, after the rounding that an input has had."""


Call = Callable[[], None]
"""One run of a primitive over buffers that are there already."""


@dataclass(frozen=True)
class Prepared:
    """A primitive with its buffers on one rank."""

    call: Call
    result: Tensor | None
    """Where `call` leaves what this rank gets; None where it gets nothing."""
    expected: Callable[[], Expected]
    """What that must be after the first call."""


def values(kind: Kind, rank: int, ranks: int, start: int, count: int, device: torch.device) -> Tensor:
    """Elements [start, start + count) of the input that `rank` has in the definition, in float64 or int64."""
    base = _base(start, count, device)
    if kind == "integers":
        return base * (rank + 1) + rank * rank
    return (base.double() / 2**20 - 0.5) * ((rank + 1) / ranks)


def total(kind: Kind, ranks: int, start: int, count: int, device: torch.device) -> Expected:
    """The sum of all ranks' `values`."""
    base = _base(start, count, device)
    weights = ranks * (ranks + 1) // 2
    if kind == "integers":
        return Expected(base * weights + (ranks - 1) * ranks * (2 * ranks - 1) // 6)
    exact = (base.double() / 2**20 - 0.5) * (weights / ranks)
    # All terms have one sign, so the sum of their sizes is the sum's. Each input is rounded once, and each of the n - 1
    # additions rounds a partial sum that is no larger than the whole: n half units (2^-24) in any order.
    return Expected(exact, exact.abs() * (ranks * 2.0**-24 * 1.01))


def _base(start: int, count: int, device: torch.device) -> Tensor:
    """Pseudo-random integers in [0, 2^20)."""
    at = torch.arange(start, start + count, dtype=torch.int64, device=device)
    return ((at * 2654435761) >> 11) & 0xFFFFF  # Knuth's multiplicative hash; at < 2^31 does not overflow


def _own(kind: Kind, at: Place, count: int) -> Tensor:
    return values(kind, at.rank, at.ranks, 0, count, at.device).to(DTYPES[kind])


def _of(kind: Kind, rank: int, at: Place, start: int, count: int) -> Expected:
    """A piece of one rank's input."""
    return Expected(values(kind, rank, at.ranks, start, count, at.device))


def _of_all(kind: Kind, at: Place, start: int, each: int) -> Expected:
    """The same piece of every rank's input, in the ranks' order."""
    return Expected(torch.cat([values(kind, r, at.ranks, start, each, at.device) for r in range(at.ranks)]))


def _broadcast(kind: Kind, at: Place, count: int) -> Prepared:
    buffer = _own(kind, at, count)
    return Prepared(lambda: _done(dist.broadcast(buffer, ROOT)), buffer, lambda: _of(kind, ROOT, at, 0, count))


def _scatter(kind: Kind, at: Place, count: int) -> Prepared:
    each = count // at.ranks
    out = torch.zeros(each, dtype=DTYPES[kind], device=at.device)
    pieces = list(_own(kind, at, count).split(each)) if at.rank == ROOT else None
    return Prepared(
        lambda: _done(dist.scatter(out, pieces, ROOT)), out, lambda: _of(kind, ROOT, at, at.rank * each, each)
    )


def _gather(kind: Kind, at: Place, count: int) -> Prepared:
    each = count // at.ranks
    mine = _own(kind, at, each)
    if at.rank != ROOT:
        return Prepared(lambda: _done(dist.gather(mine, None, ROOT)), None, _nothing)
    out = torch.zeros(count, dtype=DTYPES[kind], device=at.device)
    pieces = list(out.split(each))
    return Prepared(lambda: _done(dist.gather(mine, pieces, ROOT)), out, lambda: _of_all(kind, at, 0, each))


def _reduce(kind: Kind, at: Place, count: int) -> Prepared:
    buffer = _own(kind, at, count)
    result = buffer if at.rank == ROOT else None  # the others' buffers may hold partial sums afterwards
    return Prepared(
        lambda: _done(dist.reduce(buffer, ROOT)), result, lambda: total(kind, at.ranks, 0, count, at.device)
    )


def _all_gather(kind: Kind, at: Place, count: int) -> Prepared:
    each = count // at.ranks
    mine = _own(kind, at, each)
    out = torch.zeros(count, dtype=DTYPES[kind], device=at.device)
    return Prepared(lambda: _done(dist.all_gather_into_tensor(out, mine)), out, lambda: _of_all(kind, at, 0, each))


def _all_reduce(kind: Kind, at: Place, count: int) -> Prepared:
    buffer = _own(kind, at, count)
    return Prepared(lambda: _done(dist.all_reduce(buffer)), buffer, lambda: total(kind, at.ranks, 0, count, at.device))


def _reduce_scatter(kind: Kind, at: Place, count: int) -> Prepared:
    each = count // at.ranks
    mine = _own(kind, at, count)
    out = torch.zeros(each, dtype=DTYPES[kind], device=at.device)
    return Prepared(
        lambda: _done(dist.reduce_scatter_tensor(out, mine)),
        out,
        lambda: total(kind, at.ranks, at.rank * each, each, at.device),
    )


def _all_to_all(kind: Kind, at: Place, count: int) -> Prepared:
    each = count // at.ranks
    mine = _own(kind, at, count)
    out = torch.zeros(count, dtype=DTYPES[kind], device=at.device)
    return Prepared(
        lambda: _done(dist.all_to_all_single(out, mine)), out, lambda: _of_all(kind, at, at.rank * each, each)
    )


def _send_recv(kind: Kind, at: Place, count: int) -> Prepared:
    """Every rank sends to the next one and receives from the one before, at the same time."""
    mine = _own(kind, at, count)
    out = torch.zeros_like(mine)
    before, after = (at.rank - 1) % at.ranks, (at.rank + 1) % at.ranks

    def call() -> None:
        ops = [dist.P2POp(dist.isend, mine, after), dist.P2POp(dist.irecv, out, before)]
        for work in dist.batch_isend_irecv(ops):
            work.wait()

    return Prepared(call, out, lambda: _of(kind, before, at, 0, count))


def _barrier(kind: Kind, at: Place, count: int) -> Prepared:
    return Prepared(lambda: _done(dist.barrier()), None, _nothing)


def _done(work: object) -> None:
    assert work is None  # no async_op was asked for


def _nothing() -> Expected:
    raise AssertionError("this rank gets nothing")


def _ring(ranks: int) -> float:
    return (ranks - 1) / ranks


@dataclass(frozen=True)
class Primitive:
    """One row's kind in the table."""

    prepare: Callable[[Kind, Place, int], Prepared]
    """With the buffers for so many elements of the largest one: the whole that is scattered, gathered, exchanged."""
    bus_factor: Callable[[int], float]
    """Bus bandwidth over algorithm bandwidth, by the number of ranks (nccl-tests, doc/PERFORMANCE.md)."""
    moves: bool = True
    """Whether it moves bytes of a person's choice."""


PRIMITIVES = {
    "broadcast": Primitive(_broadcast, lambda n: 1.0),
    "scatter": Primitive(_scatter, _ring),
    "gather": Primitive(_gather, _ring),
    "reduce": Primitive(_reduce, lambda n: 1.0),
    "all_gather": Primitive(_all_gather, _ring),
    "all_reduce": Primitive(_all_reduce, lambda n: 2 * _ring(n)),
    "reduce_scatter": Primitive(_reduce_scatter, _ring),
    "all_to_all": Primitive(_all_to_all, _ring),
    "send_recv": Primitive(_send_recv, lambda n: 1.0),
    "barrier": Primitive(_barrier, lambda n: 0.0, moves=False),
}


def right(prepared: Prepared) -> bool:
    """Whether this rank has what the definition says, after one `call`."""
    if prepared.result is None:
        return True
    expected = prepared.expected()
    if expected.tolerance is None:
        return torch.equal(prepared.result, expected.values.to(prepared.result.dtype))
    return bool(((prepared.result.double() - expected.values).abs() <= expected.tolerance).all())
