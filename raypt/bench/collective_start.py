"""How the ranks of the collectives' benchmark come to be: Ray actors, or processes of mpirun."""

import contextlib
import datetime
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from raypt.bench.collective_rank import Measured, run_rank
from raypt.errors import UserError
from raypt.parallel import mpi
from raypt.ray_session import RaySection, session

BACKENDS = ("gloo", "nccl", "mpi")
PLACING_S = 60.0
"""How long the cluster may take to find room for the ranks."""
_UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def sizes_of(text: str) -> list[int]:
    """ "1KiB..256MiB" (each four times the one before), or "1KiB,1MiB"; in bytes. Raises UserError."""
    ends = [_bytes(part) for part in re.split(r"\.\.|,", text)]
    if ".." not in text:
        return ends
    if len(ends) != 2 or ends[0] > ends[1]:
        raise UserError(f"--sizes {text}: a range is A..B with A <= B, such as 1KiB..256MiB")
    out = [ends[0]]
    while out[-1] * 4 <= ends[1]:
        out.append(out[-1] * 4)
    return out


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+)\s*([KMG]iB|B|)", text.strip())
    if not found or not int(found[1]):
        raise UserError(f"--sizes: {text!r} is no size; write 64, 1KiB, 16MiB, 1GiB")
    return int(found[1]) * _UNITS[found[2]]


def over_ray(
    backend: str,
    ranks: int,
    sizes: Sequence[int],
    primitives: Sequence[str],
    *,
    address: str | None = None,
    timeout_s: float = 300.0,
) -> tuple[list[list[Measured]], str]:
    """(results by rank, where they ran). Ranks are packed onto as few nodes as hold them, as Ray Train does.

    Raises UserError: the backend is not in this torch, or the cluster has not got the CPUs or GPUs.
    """
    if backend == "nccl" and not dist.is_nccl_available():
        raise UserError("--backend nccl: this torch was built without NCCL; install torch for CUDA")
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    with joined(ranks, address):
        bundle = {"CPU": 1.0} | ({"GPU": 1.0} if backend == "nccl" else {})
        group = placement_group([bundle] * ranks, strategy="PACK")
        if not group.wait(PLACING_S):
            have = ray.cluster_resources()
            raise UserError(
                f"--ranks {ranks}: the cluster has no room for them within {PLACING_S:g} s (it has "
                f"{have.get('CPU', 0):g} CPUs and {have.get('GPU', 0):g} GPUs)"
            )
        actor = ray.remote(num_cpus=1, num_gpus=bundle.get("GPU", 0))(RankActor)
        actors: list[Any] = [
            actor.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, i)).remote() for i in range(ranks)
        ]
        meeting = ray.get(actors[0].meeting_point.remote())
        hosts = ray.get([a.host.remote() for a in actors])
        results = ray.get(
            [
                a.run.remote(backend, rank, ranks, meeting, list(sizes), list(primitives), timeout_s)
                for rank, a in enumerate(actors)
            ]
        )
        remove_placement_group(group)
    return results, _nodes(hosts)


def joined(ranks: int, address: str | None) -> contextlib.AbstractContextManager[None]:
    """The Ray that this process has already; else the cluster's, or one of this machine for so many ranks."""
    import ray

    if ray.is_initialized():
        return contextlib.nullcontext()
    return session(RaySection(address=address, num_cpus=ranks, dashboard=False))


def _nodes(hosts: Sequence[str]) -> str:
    return "1 node" if len(set(hosts)) == 1 else f"{len(set(hosts))} nodes"


class RankActor:
    """One rank, as a Ray actor."""

    def host(self) -> str:
        return socket.gethostname()

    def meeting_point(self) -> str:
        """Where the ranks of a group find each other, on this one's node."""
        import ray.util

        address = ray.util.get_node_ip_address()
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as s:
            s.bind((address, 0))
            port = s.getsockname()[1]
        return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"

    def run(
        self,
        backend: str,
        rank: int,
        ranks: int,
        meeting: str,
        sizes: list[int],
        primitives: list[str],
        timeout_s: float,
    ) -> list[Measured]:
        """Collective."""
        torch.set_num_threads(1)
        device = torch.device("cuda", 0) if backend == "nccl" else torch.device("cpu")
        if device.type == "cuda":
            torch.cuda.set_device(device)
        timeout = datetime.timedelta(seconds=timeout_s)
        dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=ranks, timeout=timeout)
        try:
            return run_rank(device, sizes, primitives)
        finally:
            dist.destroy_process_group()


def mpirun_command(command: str, ranks: int) -> list[str]:
    """`mpirun` for so many processes on this machine, with what Open MPI wants beside it. Raises UserError."""
    words = shlex.split(command)
    found = shutil.which(words[0]) or _beside_python(words[0])
    if found is None:
        raise UserError(
            f"--backend mpi: there is no {words[0]} on PATH; pip install 'raypt[mpi]' brings one, or take the site's"
        )
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    own: list[str] = []
    if "Open MPI" in version or "open-mpi" in version.lower():
        # More ranks than cores are refused otherwise, and so is root, as whom containers run.
        own = ["--oversubscribe", *(["--allow-run-as-root"] if os.geteuid() == 0 else [])]
    return [found, *own, *words[1:], "-n", str(ranks)]


def _beside_python(name: str) -> str | None:
    at = Path(sys.executable).parent / name
    return str(at) if at.exists() else None


def over_mpi(
    command: str, ranks: int, sizes: Sequence[int], primitives: Sequence[str]
) -> tuple[list[list[Measured]], str]:
    """(results by rank, where they ran), of processes that mpirun starts. Raises UserError."""
    mpi.world()
    with tempfile.TemporaryDirectory() as directory:
        result = Path(directory) / "results.json"
        arguments = ["--sizes", ",".join(map(str, sizes)), "--primitives", ",".join(primitives)]
        start = [*mpirun_command(command, ranks), sys.executable, "-m", "raypt.bench.collectives", *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        code = subprocess.call([*start, "--rank-result", str(result)], stdout=sys.stderr, env=environment)
        if code:
            raise UserError(f"--backend mpi: {' '.join(start[:4])} ... ended with {code}")
        found: dict[str, Any] = json.loads(result.read_text())
    return [[Measured(**m) for m in of_rank] for of_rank in found["ranks"]], _nodes(found["hosts"])


def mpi_rank(result: Path, sizes: Sequence[int], primitives: Sequence[str]) -> None:
    """One process of mpirun; the first one writes everyone's results down."""
    torch.set_num_threads(1)
    try:
        mpi.init_process_group()
        comm = mpi.world()
        measured = comm.gather([asdict(m) for m in run_rank(torch.device("cpu"), sizes, primitives)])
        hosts = comm.gather(socket.gethostname())
        if comm.rank == 0:
            result.write_text(json.dumps({"ranks": measured, "hosts": hosts}))
        dist.destroy_process_group()
    except BaseException:
        import traceback

        traceback.print_exc()
        mpi.abort()
        raise
