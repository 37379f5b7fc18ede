"""What the ranks of the collectives' tests do."""

from dataclasses import asdict
from typing import Any

import torch

from raypt.bench import primitives
from raypt.bench.collective_rank import run_rank
from raypt.parallel import comm


def every_primitive(sizes: list[int]) -> list[dict[str, Any]]:
    device = comm.init_process_group(use_gpu=False)
    return [asdict(m) for m in run_rank(device, sizes, list(primitives.PRIMITIVES))]


def one_element_wrong_on_one_rank() -> dict[str, list[bool]]:
    """For each primitive that moves bytes: whether each kind of values is found right, where rank 1 (or the root, where
    it alone gets something) finds the smallest change of a single element.
    """
    import torch.distributed as dist

    device = comm.init_process_group(use_gpu=False)
    at = primitives.Place(dist.get_rank(), dist.get_world_size(), device)
    out: dict[str, list[bool]] = {}
    for name, primitive in primitives.PRIMITIVES.items():
        if not primitive.moves:
            continue
        spoils = at.rank == (0 if name in ("gather", "reduce") else 1)
        for kind in ("integers", "floats"):
            prepared = primitive.prepare(kind, at, 12)
            prepared.call()
            before = primitives.right(prepared)
            if spoils and prepared.result is not None:
                expected = prepared.expected()
                if expected.tolerance is not None:
                    prepared.result[-1] = expected.values[-1] + 3 * expected.tolerance[-1]
                elif kind == "integers":
                    prepared.result[-1] += 1
                else:
                    prepared.result[-1] = torch.nextafter(prepared.result[-1], torch.tensor(9.0))
            out.setdefault(name, []).extend([before, primitives.right(prepared)])
    return out


def without_a_primitive() -> list[dict[str, Any]]:
    """A backend that says it has no all-to-all."""
    import torch.distributed as dist

    device = comm.init_process_group(use_gpu=False)

    def lacking(*_: Any, **__: Any) -> None:
        raise RuntimeError("Backend gloo does not support all_to_all")

    has = dist.all_to_all_single
    dist.all_to_all_single = lacking
    try:
        return [asdict(m) for m in run_rank(device, [64, 128], ["all_to_all", "broadcast"])]
    finally:
        dist.all_to_all_single = has


def a_barrier_that_nobody_waits_at() -> bool:
    device = comm.init_process_group(use_gpu=False)
    import torch.distributed as dist

    has = dist.barrier
    dist.barrier = lambda: None
    try:
        return run_rank(device, [64], ["barrier"])[0].correct
    finally:
        dist.barrier = has


def faults() -> dict[str, Any]:
    """What each of the above says, in one launch."""
    return {
        "wrong": one_element_wrong_on_one_rank(),
        "lacking": without_a_primitive(),
        "barrier": a_barrier_that_nobody_waits_at(),
    }
