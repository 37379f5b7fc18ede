"""What the ranks of the MPI tests do; as a program, one process of mpirun."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from raypt.parallel import comm, mpi
from tests.parallel import cases


def calls() -> dict[str, bool]:
    """Calls that the benchmark does not make, each with whether its result is right; four ranks."""
    mpi.init_process_group()
    rank, out = dist.get_rank(), {}
    group = None
    for ranks in ([0, 2], [1, 3]):
        if rank in ranks:
            group = dist.new_group(ranks, use_local_synchronization=True)
    mine = torch.full((5,), float(rank))
    dist.all_reduce(mine, group=group)
    root = torch.full((3,), float(rank))
    dist.broadcast(root, rank % 2 + 2, group=group)
    out["sub-groups"] = bool((mine == 2 + 2 * (rank % 2)).all() and (root == rank % 2 + 2).all())

    first, second = torch.full((1000,), float(rank)), torch.full((7,), float(rank), dtype=torch.float64)
    gathered = torch.empty(28, dtype=torch.float64)
    works = [
        dist.all_reduce(first, async_op=True),
        dist.all_gather_into_tensor(gathered, second, async_op=True),
    ]
    for work in reversed(works):
        work.wait()
    out["asynchronous"] = bool((first == 6).all() and torch.equal(gathered, torch.arange(4.0).repeat_interleave(7)))

    halves = torch.arange(64).bfloat16() * (rank + 1)
    dist.all_reduce(halves)
    piece = torch.empty(4, dtype=torch.bfloat16)
    dist.reduce_scatter_tensor(piece, torch.arange(16).bfloat16() * 2**rank)
    # Sums that bf16 holds exactly: 15 i for i < 16; 10 i to the nearest of 8 bits, two ulp in any order of four terms.
    near = (halves.float() - 10 * torch.arange(64)).abs() <= 10 * torch.arange(64) / 128
    out["bf16"] = bool(near.all() and torch.equal(piece.float(), 15.0 * torch.arange(16)[4 * rank : 4 * rank + 4]))

    counts = [1, 2, 3, 4]
    received = torch.empty(counts[rank] * 4, dtype=torch.int64)
    sent = torch.repeat_interleave(torch.arange(4) * 10 + rank, torch.tensor(counts))
    dist.all_to_all_single(received, sent, [counts[rank]] * 4, counts)
    uneven = torch.equal(received, (rank * 10 + torch.arange(4)).repeat_interleave(counts[rank]))
    scattered = torch.empty(counts[rank])
    dist.reduce_scatter(scattered, [torch.full((n,), float(n)) for n in counts])
    out["uneven"] = bool(uneven and (scattered == 4 * counts[rank]).all())

    everyone = comm.gather_objects({"rank": rank, "text": "x" * (rank * 100)})
    out["objects"] = [e["rank"] for e in everyone] == [0, 1, 2, 3] and comm.broadcast_object(rank) == 0
    average = torch.full((3,), float(rank))
    dist.all_reduce(average, dist.ReduceOp.AVG)
    out["average"] = bool((average == 1.5).all())
    least = torch.tensor([rank + 5])
    dist.all_reduce(least, dist.ReduceOp.MIN)
    out["minimum"] = int(least) == 5
    pieces = [torch.empty(2, 3) for _ in range(4)]
    dist.all_gather(pieces, torch.full((2, 3), float(rank)))
    out["list"] = all(bool((p == i).all()) for i, p in enumerate(pieces))
    return out


def every_stage() -> dict[str, Any]:
    """Losses and gradient norms of six steps at every stage, over MPI under mpirun, else over gloo."""
    torch.set_num_threads(1)
    if __name__ == "__main__":
        mpi.init_process_group()
    device = comm.init_process_group(use_gpu=False)
    plan, rank = cases.plan_for(dist.get_world_size()), dist.get_rank()
    return {
        str(stage): cases.train(cases.engine_for(stage, "fp32", plan, device), plan, rank, 0, 6) for stage in range(4)
    }


if __name__ == "__main__":
    try:
        result = globals()[sys.argv[1]](**json.loads(sys.argv[2]))
        (Path(sys.argv[3]) / f"{sys.argv[1]}-{dist.get_rank()}.json").write_text(json.dumps(result))
        dist.barrier()
    except BaseException:
        import traceback

        traceback.print_exc()
        mpi.abort()
