"""Samples for the ranks of one replica, which train on the same ones: the first reads the stream and tells the rest.

A split of the stream has one consumer, and the samples of a micro-batch are small beside what the ranks exchange in
each of its layers.
"""

from collections.abc import Iterator
from typing import Any

import torch.distributed as dist

from raypt.parallel.comm_clock import CLOCK
from raypt.parallel.mesh import Mesh

Rows = dict[str, Any]


def shared(rows: Iterator[Rows], mesh: Mesh) -> Iterator[Rows]:
    """The rows of the replica's first rank, on each of its ranks; what the others bring is not looked at. Taking one is
    collective among the ranks of the replica, and so is an error of the stream.
    """
    if mesh.replica.size == 1:
        return rows
    return _told(rows, mesh)


def _told(rows: Iterator[Rows], mesh: Mesh) -> Iterator[Rows]:
    reads = mesh.topology.leads_replica
    while True:
        row: Rows | None = None
        error: BaseException | None = None
        if reads:
            try:
                row = next(rows, None)
            except Exception as e:
                error = e
        box: list[Any] = [row, None if error is None else f"{type(error).__name__}: {error}"]
        with CLOCK:
            dist.broadcast_object_list(box, src=mesh.replica.ranks[0], group=mesh.replica.handle)
        if error is not None:
            raise error
        if box[1] is not None:
            raise RuntimeError(f"rank {mesh.replica.ranks[0]}, which reads the samples, failed: {box[1]}")
        if box[0] is None:
            return
        yield box[0]
