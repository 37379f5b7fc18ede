"""Collectives: every primitive of a backend compared with its definition on every rank, then timed.

    python jobs/bench.py collectives --backend gloo --ranks 4 --sizes 1KiB..256MiB
    python jobs/bench.py collectives --backend gloo,mpi --ranks 4 --json

Ranks of gloo and nccl are Ray actors, on the nodes that training would get (--address or RAY_ADDRESS; without one, on
this machine), those of mpi are started by mpirun. Prints a table a backend, or with --json one list of
{primitive, backend, ranks, bytes, correct, latency_s, algorithm_bandwidth, bus_bandwidth} (bytes a second); `bytes` is
the largest buffer of a call, and the bus bandwidth follows nccl-tests. A primitive that a backend lacks has nulls and
says why under `lacks`. Exits with 1 if a result is wrong.

--pairs measures every pair of the cluster's nodes instead, and every node's matrix products and memory, and names what
is slower than its like.
"""

import argparse
import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from raypt.bench.collective_rank import Measured
from raypt.bench.collective_start import BACKENDS, joined, mpi_rank, over_mpi, over_ray, sizes_of
from raypt.bench.collective_table import page, printed, rows_of
from raypt.bench.pairs_job import listed, over_nodes, shown
from raypt.bench.primitives import PRIMITIVES
from raypt.errors import UserError


def main(argv: list[str]) -> int:
    """`jobs/bench.py collectives ...`."""
    parser = argparse.ArgumentParser(
        "bench.py collectives", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", default="gloo", help="gloo, nccl, mpi, or several: gloo,mpi (default: gloo)")
    parser.add_argument("--ranks", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--sizes", default="1KiB..256MiB", help="A..B (each four times the last), or A,B,C")
    parser.add_argument("--primitives", default=",".join(PRIMITIVES), help="default: all")
    parser.add_argument("--pairs", action="store_true", help="every pair of nodes instead of the primitives")
    parser.add_argument("--pair-bytes", default="64MiB", help="of a message between two nodes (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the list; the tables go to standard error")
    parser.add_argument("--page", type=Path, default=Path("collectives.html"), help="default: %(default)s")
    parser.add_argument("--address", help="the Ray cluster (default: RAY_ADDRESS, else this machine)")
    parser.add_argument("--mpirun", default="mpirun", help="the command, with a site's own options")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds that a call of gloo or nccl may take")
    parser.add_argument("--rank-result", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    try:
        return _main(args)
    except UserError as e:
        print(f"bench collectives: {e}", file=sys.stderr)
        return 2


def _main(args: argparse.Namespace) -> int:
    sizes, primitives = sizes_of(args.sizes), _named(args.primitives, PRIMITIVES, "--primitives")
    if args.rank_result is not None:
        mpi_rank(args.rank_result, sizes, primitives)
        return 0
    if args.pairs:
        return _pairs(args)
    backends = _named(args.backend, BACKENDS, "--backend")
    if args.ranks < 2:
        raise UserError(f"--ranks {args.ranks}: a collective needs two")
    sections, everything = [], []
    tables = sys.stderr if args.json else sys.stdout
    for backend in backends:
        by_rank, where = _measure(backend, args, sizes, primitives)
        rows = rows_of(backend, by_rank)
        title = f"{backend}, {args.ranks} ranks on {where}"
        print(printed(title, rows), end="\n\n", file=tables, flush=True)
        sections.append((title, rows))
        everything += rows
    args.page.write_text(page("Collectives", sections))
    print(f"picture: {args.page}", file=sys.stderr)
    if args.json:
        print(json.dumps(everything))
    return 1 if any(row["correct"] is False for row in everything) else 0


def _pairs(args: argparse.Namespace) -> int:
    (nbytes,) = sizes_of(args.pair_bytes)[:1]
    with joined(2, args.address):
        measured = over_nodes(nbytes=nbytes)
    print(json.dumps(listed(*measured)) if args.json else shown(*measured))
    return 0


def _measure(
    backend: str, args: argparse.Namespace, sizes: Sequence[int], primitives: Sequence[str]
) -> tuple[list[list[Measured]], str]:
    if backend == "mpi":
        return over_mpi(args.mpirun, args.ranks, sizes, primitives)
    return over_ray(backend, args.ranks, sizes, primitives, address=args.address, timeout_s=args.timeout)


def _named(given: str, known: Collection[str], what: str) -> list[str]:
    names = given.split(",")
    for name in names:
        if name not in known:
            raise UserError(f"{what} {name}: there are {', '.join(known)}")
    return names


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
