"""Training over MPI on a token store; needs mpi4py and mpirun (`pip install 'raypt[mpi]'`)."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs.helpers import ROOT, TINY, environment, metrics, run_job

pytest.importorskip("mpi4py", reason="mpi4py is not installed: pip install 'raypt[mpi]'")

from raypt.bench.collective_start import mpirun_command
from raypt.errors import UserError

pytestmark = [pytest.mark.ray, pytest.mark.slow]

OPTIONS = [
    *TINY, "run.dir=out", "curation.quality.reference=[]", "train.steps=8", "train.checkpoint.every_steps=4",
    "run.record_samples=true", "train.log_every=1",
]  # fmt: skip


def over_mpi(cwd: Path, *options: str, ranks: int = 2) -> "subprocess.CompletedProcess[str]":
    command = [*mpirun_command("mpirun", ranks), sys.executable, "-m", "raypt.run.train_over_mpi", *OPTIONS, *options]
    known = environment() | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=200, env=known, check=False)


@pytest.fixture(scope="module")
def tokenized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        mpirun_command("mpirun", 2)
    except UserError as e:
        pytest.skip(str(e))
    cwd = tmp_path_factory.mktemp("mpi")
    done = run_job("tokenize.py", *OPTIONS, cwd=cwd)
    assert done.returncode == 0, done.stderr[-3000:]
    return cwd


def test_mpi_and_gloo_under_ray_train_alike_and_go_on_from_each_other(tokenized: Path) -> None:
    """Two workers: sums of two terms are the same in either order, so the losses are equal bit for bit. The run over
    MPI stops at a checkpoint, and goes on from it over MPI in one copy and under Ray in another.
    """
    store = tokenized / "tokens-only"
    shutil.copytree(tokenized / "out", store)
    done = over_mpi(tokenized, "train.backend=mpi", "train.steps=4", "train.schedule.steps=8")
    assert done.returncode == 0, done.stderr[-3000:]
    shutil.copytree(tokenized / "out", tokenized / "half")
    done = over_mpi(tokenized, "train.backend=mpi", "train.schedule.steps=8")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "trained to step 8 over MPI with 2 processes" in done.stdout
    losses = {"mpi": [m["loss"] for m in metrics(tokenized / "out")]}
    for name, directory in (("gloo", store), ("moved", tokenized / "half")):
        shutil.rmtree(tokenized / "out")
        shutil.copytree(directory, tokenized / "out")
        done = run_job("pretrain.py", *OPTIONS, "train.schedule.steps=8", cwd=tokenized)
        assert done.returncode == 0, done.stderr[-3000:]
        losses[name] = [m["loss"] for m in metrics(tokenized / "out")]
    assert len(losses["mpi"]) == 8
    assert losses["mpi"] == losses["gloo"] == losses["moved"]


def test_a_mistake_ends_every_process_and_is_said(tokenized: Path) -> None:
    done = over_mpi(tokenized, "train.backend=mpi", "train.workers=4")
    assert done.returncode != 0
    assert "train.workers=4: mpirun started 2 processes" in done.stderr


def test_rays_job_refuses_mpi_and_says_how(tokenized: Path) -> None:
    done = run_job("pretrain.py", *OPTIONS, "train.backend=mpi", cwd=tokenized)
    assert done.returncode == 2
    assert "mpirun -n N python -m raypt.run.train_over_mpi" in done.stderr
