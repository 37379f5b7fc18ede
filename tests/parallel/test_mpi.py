"""The process group over MPI; needs mpi4py and mpirun (`pip install 'raypt[mpi]'`)."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install 'raypt[mpi]'")

from raypt.bench import collectives
from raypt.bench.collective_start import mpirun_command
from raypt.bench.primitives import PRIMITIVES
from raypt.errors import UserError
from tests.parallel.ranks import ROOT, run_ranks, variables


def _mpirun(ranks: int) -> list[str]:
    try:
        return mpirun_command("mpirun", ranks)
    except UserError as e:
        pytest.skip(str(e))


def under_mpirun(ranks: int, function: str, tmp: Path, **arguments: Any) -> list[Any]:
    """`tests.parallel.mpi_cases.function(**arguments)` on so many ranks; their results."""
    command = [*_mpirun(ranks), sys.executable, "-m", "tests.parallel.mpi_cases", function, json.dumps(arguments)]
    done = subprocess.run(
        [*command, str(tmp)], env=variables(), cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return [json.loads((tmp / f"{function}-{rank}.json").read_text()) for rank in range(ranks)]


def test_every_primitive_of_the_benchmark_is_right_on_four_ranks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _mpirun(4)
    arguments = ["--backend", "mpi", "--ranks", "4", "--sizes", "1KiB,1MiB", "--json"]
    assert collectives.main([*arguments, "--page", str(tmp_path / "page.html")]) == 0
    rows = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert {r["primitive"] for r in rows if r["correct"]} == PRIMITIVES.keys()


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return under_mpirun(4, "calls", tmp_path_factory.mktemp("calls"))


@pytest.mark.parametrize(
    "name", ["sub-groups", "asynchronous", "bf16", "uneven", "objects", "average", "minimum", "list"]
)
def test_calls_beside_the_plain_ones_are_right(name: str, calls: list[Any]) -> None:
    assert [of_rank[name] for of_rank in calls] == [True] * 4


def test_zero_0_to_3_train_as_over_gloo(tmp_path: Path) -> None:
    """Two ranks: a sum of two terms is the same in either order, so the losses and norms are equal but for the blocks
    in which a reduction adds up nothing: bit for bit.
    """
    over_mpi = under_mpirun(2, "every_stage", tmp_path)
    over_gloo = run_ranks(2, "tests.parallel.mpi_cases", "every_stage", tmp_path)
    assert over_mpi[0] == over_mpi[1]
    for stage in map(str, range(4)):
        assert over_mpi[0][stage] == over_gloo[0][stage], stage


def test_a_process_without_mpirun_is_refused() -> None:
    """Each of N of them would take itself for the first of one."""
    code = "from raypt.parallel import mpi; mpi.init_process_group()"
    done = subprocess.run([sys.executable, "-c", code], env=variables(), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "this process was not started by MPI" in done.stderr
