"""What the cluster files run on a node, run here: python -m tests.cluster.set_up [KEEP]

Makes a user's empty home, copies the files that `ray up` and the image would, and for each of aws.yaml, gcp.yaml and
skypilot.yaml executes its set-up commands, then the head's start command with a token, the probes of
kubernetes/cluster.yaml against it, a request without the token (refused), and the stop. Ray's commands end every Ray
of a machine: all of it runs in a process namespace of its own (`unshare`, which needs root). Some minutes and 6 GB,
most of it torch; KEEP is a directory that keeps the home.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config

from tests.cluster.shell import CLUSTER

ROOT = CLUSTER.parent
INSIDE = "RAYPT_SET_UP_HOME"


def shell(command: str, home: Path, **environment: str) -> str:
    """A command with nothing of this process's environment but where packages are; prints it, gives its output."""
    print(f"$ {command}", flush=True)
    clean = {"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "TERM": "dumb", **environment}
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "SSL_CERT_FILE"):
        if name in os.environ:
            clean[name] = os.environ[name]
    begun = time.monotonic()
    done = subprocess.run(["bash", "-c", command], env=clean, cwd=home, capture_output=True, text=True)
    print(
        f"{done.stdout[-2000:]}{done.stderr[-2000:]}[{done.returncode}, {time.monotonic() - begun:.0f} s]", flush=True
    )
    if done.returncode:
        sys.exit(f"failed: {command}")
    return done.stdout


def of_files() -> Iterator[tuple[str, list[str], list[str]]]:
    """Each launcher file, its set-up commands, and the head's start."""
    for name in ("aws.yaml", "gcp.yaml"):
        config = prepare_config(yaml.safe_load((CLUSTER / name).read_text()))
        start = [
            command.replace(" --autoscaling-config=~/ray_bootstrap_config.yaml", "")
            for command in config["head_start_ray_commands"]
        ]
        yield name, [*config["setup_commands"], *config["head_setup_commands"]], start
    skypilot = yaml.safe_load((CLUSTER / "skypilot.yaml").read_text())
    # Its job's own start, without SkyPilot's variables: what stands before the job.
    start = [line for line in skypilot["run"].splitlines() if line.startswith((". ", "ray start --head"))]
    yield "skypilot.yaml", [f"cd ~/raypt && {skypilot['setup']}"], ["; ".join(["cd ~/raypt", PATH_FIRST, *start])]


PATH_FIRST = "export PATH=$HOME/raypt-venv/bin:$PATH"


def inside(home: Path) -> None:
    (home / ".ray").mkdir(exist_ok=True)
    (home / ".ray" / "auth_token").write_text("0" * 64)
    if not (home / "raypt").exists():
        ignore = shutil.ignore_patterns(".git", ".venv*", "runs", "__pycache__")
        shutil.copytree(ROOT, home / "raypt", ignore=ignore)
    # One home for all: what a later file adds to the environment of an earlier one is little.
    for name, commands, start in of_files():
        (home / ".bashrc").write_text("# of the image\n")
        begun = time.monotonic()
        for command in commands:
            shell(command, home)
        print(f"{name}: set up in {time.monotonic() - begun:.0f} s")
        if name != "skypilot.yaml":
            assert (home / ".bashrc").read_text().startswith(PATH_FIRST)
        shell(f"bash {home}/raypt/cluster/setup.sh", home)  # again: nothing to do
        for command in start:
            shell(command, home)
        try:
            asked(home)
        finally:
            shell("~/raypt-venv/bin/ray stop", home)
    print("all done")


def asked(home: Path) -> None:
    """The head answers its probes, and nobody without the token."""
    manifests = list(yaml.safe_load_all((CLUSTER / "kubernetes" / "cluster.yaml").read_text()))
    head = manifests[-1]["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    time.sleep(10)
    shell(head["readinessProbe"]["exec"]["command"][-1], home)
    ask = "wget -q -S -O /dev/null {} http://127.0.0.1:8265/api/jobs/ 2>&1 | grep -o 'HTTP/1.1 [0-9]*'"
    assert "401" in shell(ask.format(""), home)
    assert "200" in shell(ask.format('--header "Authorization: Bearer $(cat ~/.ray/auth_token)"'), home)
    listening = shell("awk '$4 == \"0A\" {print $2}' /proc/net/tcp /proc/net/tcp6", home).split()
    dashboard = [address for address in listening if address.endswith(f":{8265:04X}")]
    assert dashboard == ["0100007F:2049"], dashboard  # 127.0.0.1


def main() -> None:
    if home := os.environ.get(INSIDE):
        inside(Path(home))
        return
    keep = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(prefix="raypt-set-up-") as scratch:
        home = Path(keep or scratch) / "home"
        home.mkdir(parents=True, exist_ok=True)
        private = f"mount -t tmpfs none /dev/shm && mkdir -p {scratch}/tmp && mount --bind {scratch}/tmp /tmp/ray"
        Path("/tmp/ray").mkdir(exist_ok=True)
        command = f"{private} && exec {sys.executable} -m tests.cluster.set_up"
        done = subprocess.run(
            ["unshare", "--pid", "--fork", "--mount", "--mount-proc", "bash", "-c", command],
            cwd=ROOT,
            env=os.environ | {INSIDE: str(home), "PYTHONPATH": str(ROOT)},
        )
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
