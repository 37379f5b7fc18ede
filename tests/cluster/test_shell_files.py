"""Set-up, image, Slurm and SkyPilot: that the shell reads them, what they start, and what they leave closed."""

import os
import shlex
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from raypt.config_io import load
from raypt.run.config import RunConfig
from tests.cluster.image import commands, instructions
from tests.cluster.shell import CLUSTER, exported, job_of

ROOT = CLUSTER.parent


@pytest.mark.parametrize("name", ["setup.sh", "env.sh", "slurm.sbatch"])
def test_the_shell_can_read_it(name: str) -> None:
    subprocess.run(["bash", "-n", str(CLUSTER / name)], check=True)


def test_every_variable_has_a_reason_above_it() -> None:
    lines = (CLUSTER / "env.sh").read_text().splitlines()
    exports = [i for i, line in enumerate(lines) if line.startswith("export ")]
    assert len(exports) == len(exported())
    assert all(lines[i - 1].startswith("# ") for i in exports)


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def node(tmp_path: Path) -> dict[str, str]:
    """A machine of Slurm's with one node: its commands, and a `ray` that starts the job as `symmetric-run` does."""
    tools = tmp_path / "venv" / "bin"
    (tmp_path / "venv").mkdir()
    program(tools, "scontrol", f'echo "$@" >> {tmp_path}/scontrol.log; [ "$1" != show ] || hostname')
    program(tools, "srun", 'shift; "$@"')
    program(
        tools,
        "ray",
        f'if [ "$1" = get-auth-token ]; then mkdir -p ~/.ray; echo t0 > ~/.ray/auth_token; exit; fi\n'
        f'echo "$@" > {tmp_path}/ray.log; while [ "$1" != -- ]; do shift; done; shift; "$@"',
    )
    program(
        tools,
        "python",
        f'echo "$@" > {tmp_path}/job.log; trap "exit 143" TERM\n'
        '[ -z "$WAITS" ] || for i in {1..100}; do sleep 0.1; done\nexit "${STATUS:-0}"',
    )
    (tmp_path / "home").mkdir()
    return {
        "PATH": f"{tools}:/usr/bin:/bin",
        "HOME": str(tmp_path / "home"),
        "RAYPT_VENV": str(tmp_path / "venv"),
        "RAYPT_SOURCE": str(ROOT),
        "SLURM_JOB_NODELIST": "here",
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_ON_NODE": "8",
        "SLURM_SUBMIT_DIR": str(ROOT),
    }


ARGUMENTS = ["--config", "my run.yaml", "run.dir=/shared/a b", "tokens.stream.labels={raypt/pool: cpu}"]


def test_slurm_starts_one_ray_with_a_token_and_the_job_with_its_arguments(node: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(CLUSTER / "slurm.sbatch"), *ARGUMENTS], env=node, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    started = shlex.split((tmp_path / "ray.log").read_text().replace("$", ""))
    assert started[0] == "symmetric-run"
    assert "24711" in started[started.index("--address") + 1]  # 20000 + the job's number
    assert "--min-nodes" in started
    said = [f"{ROOT}/jobs/pretrain.py", "ray.address=auto", *ARGUMENTS]
    assert (tmp_path / "job.log").read_text().strip() == " ".join(said)
    assert (tmp_path / "home" / ".ray" / "auth_token").stat().st_mode & 0o077 == 0
    assert not (tmp_path / "scontrol.log").read_text().count("requeue")


def test_slurm_reports_a_failed_job_and_does_not_queue_it_again(node: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(["bash", str(CLUSTER / "slurm.sbatch")], env=node | {"STATUS": "2"}, timeout=30)
    assert done.returncode == 2
    assert "requeue" not in (tmp_path / "scontrol.log").read_text()


def test_slurm_says_so_where_ray_did_not_start(node: dict[str, str], tmp_path: Path) -> None:
    """`ray symmetric-run` exits with 0 then."""
    program(tmp_path / "venv" / "bin", "ray", "mkdir -p ~/.ray; echo t > ~/.ray/auth_token; exit 0")
    done = subprocess.run(["bash", str(CLUSTER / "slurm.sbatch")], env=node, timeout=30, capture_output=True, text=True)
    assert done.returncode == 1
    assert "not started" in done.stderr


def test_slurm_ends_before_its_time_with_a_checkpoint_and_is_queued_again(node: dict[str, str], tmp_path: Path) -> None:
    import signal
    import time

    process = subprocess.Popen(["bash", str(CLUSTER / "slurm.sbatch")], env=node | {"WAITS": "1"})
    deadline = time.monotonic() + 20
    while not (tmp_path / "job.log").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.2)  # until the program has set its trap
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == 143
    assert "requeue 4711" in (tmp_path / "scontrol.log").read_text()


def test_skypilot_has_no_open_port_shows_the_token_and_starts_a_job_that_raypt_takes() -> None:
    task = yaml.safe_load((CLUSTER / "skypilot.yaml").read_text())
    assert "ports" not in task["resources"]
    assert task["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert "cluster/env.sh" in task["run"]
    for part in ("setup", "run"):
        subprocess.run(["bash", "-n"], input=task[part], text=True, check=True)
    values = {**task["envs"], "SKYPILOT_NUM_NODES": "4", "SKYPILOT_NUM_GPUS_PER_NODE": "8", "head": "10.0.0.1"}
    command = task["run"][task["run"].index("python jobs/pretrain.py") :]
    said = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {command}"],
        env={**os.environ, **values},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    config = load(RunConfig, None, job_of(shlex.join(said.splitlines())))
    assert config.train.workers == 32
    assert config.run_uri == "s3://BUCKET/runs/first"


def test_the_image_ends_as_a_user_that_is_not_root_and_copies_what_is_there() -> None:
    steps = instructions()
    assert [what for kind, what in steps if kind == "USER"][-1] == "1000"
    assert steps[0] == ("FROM", "ubuntu:24.04")  # Python 3.12; the release is named, not `latest`
    assert not [what for kind, what in steps if kind == "ADD"]
    ignored = (CLUSTER / "Dockerfile.dockerignore").read_text().split()
    for kind, what in steps:
        if kind == "COPY":
            for name in what.split()[1:-1]:
                assert (ROOT / name).exists(), name
                assert name == "." or f"!{name.split('/')[0]}" in ignored, name
    assert ignored[0] == "*"  # no .git, no runs, no tokens of whoever builds it


def test_the_image_installs_what_the_project_declares() -> None:
    done = subprocess.run(
        [sys.executable, str(CLUSTER / "requirements.py"), str(ROOT / "pyproject.toml"), "s3", "gcs"],
        capture_output=True,
        text=True,
        check=True,
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert done.stdout.splitlines() == [*project["dependencies"], *extras["s3"], *extras["gcs"]]
    torch = next(r for r in project["dependencies"] if r.startswith("torch"))
    assert f'"{torch}"' in (CLUSTER / "Dockerfile").read_text()


def test_without_a_builder_the_images_steps_are_those_that_need_no_root(tmp_path: Path) -> None:
    ran = commands(tmp_path)
    steps = ("-m venv", '"torch>=', "-r requirements.txt", "bash src/cluster/setup.sh")
    found = [next(i for i, command in enumerate(ran) if step in command) for step in steps]
    assert found == sorted(found)
    assert not [c for c in ran if "apt-get" in c or "userdel" in c]
    assert all("/home/ray" not in c for c in ran)
