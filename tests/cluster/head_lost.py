"""A head is lost with all on it, and another finds the cluster in Redis: python -m tests.cluster.head_lost [DIR]

As kubernetes/cluster.yaml and redis.yaml have it, on one machine: a Redis with a password (Debian's package
redis-server), a head without work that keeps the cluster's state there, a node that works, the ConfigMap's environment.
The main job's driver lives on the head. While it curates, and again while it trains, every process of the head and the
driver are killed, another head is started on the same address, and the same command follows, as `backoffLimit` gives
it. The node must be the one that it was, without another start of its own, and ledger, samples and losses those of a
run that nothing disturbed. Prints how long a head was away. Three to five minutes; starts Ray.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import ray
import yaml

from tests.chaos.world import Job, differences, wait_until
from tests.cluster.shell import CLUSTER
from tests.jobs.helpers import environment

RAY = str(Path(sys.executable).with_name("ray"))
APART = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
"""As on a machine of its own: `ray start --head` refuses an address of which it finds processes. Needs root."""
NODE_IP = "127.0.0.2"
"""So that drivers, which live on the head, take the head's raylet for theirs."""
CAME_S = 120.0
"""For Ray's processes to come up on a loaded machine."""


def of_the_configmap() -> dict[str, str]:
    """The environment that every pod has."""
    documents = yaml.safe_load_all((CLUSTER / "kubernetes" / "cluster.yaml").read_text())
    found = next(d for d in documents if d["kind"] == "ConfigMap")["data"]
    return {name: value for name, value in found.items() if name.startswith("RAY_")}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def kill_tree(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL to a process and all below it, children first found."""
    with suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait()


@contextmanager
def redis(folder: Path, password: str) -> Iterator[int]:
    """Redis as redis.yaml starts it; its port."""
    binary = shutil.which("redis-server")
    if binary is None:
        sys.exit("there is no redis-server: apt-get install redis-server")
    documents = yaml.safe_load_all((CLUSTER / "kubernetes" / "redis.yaml").read_text())
    pod = next(d for d in documents if d["kind"] == "StatefulSet")["spec"]["template"]["spec"]
    (line,) = [c["command"][-1] for c in pod["containers"] if c["name"] == "redis"]
    port = free_port()
    command = f"{line.replace('--dir /data', f'--dir {folder}')} --port {port} --bind 127.0.0.1"
    process = subprocess.Popen(
        ["sh", "-c", command], env=os.environ | {"REDIS_PASSWORD": password}, stdout=subprocess.DEVNULL
    )
    try:
        yield port
    finally:
        kill_tree(process)


class Cluster:
    """A head, which may be lost, and a node."""

    def __init__(self, folder: Path, redis_port: int, password: str) -> None:
        self.folder, self.port = folder, free_port()
        self.address = f"{ray.util.get_node_ip_address()}:{self.port}"
        self._environment = environment() | of_the_configmap() | {"RAY_AUTH_MODE": "disabled"}
        self._of_head = {
            "RAY_REDIS_ADDRESS": f"127.0.0.1:{redis_port}",
            "REDIS_PASSWORD": password,
            "RAY_external_storage_namespace": "raypt",
        }
        self._password = password
        self.head = self._start_head()
        node = ["--address", self.address, "--node-ip-address", NODE_IP, "--num-cpus", "3"]
        self.node = self._start([*node, "--object-store-memory", "200000000"], {}, "node", APART)

    def _start(
        self, arguments: list[str], more: dict[str, str], name: str, wrapper: Sequence[str] = ()
    ) -> "subprocess.Popen[bytes]":
        log = (self.folder / f"{name}.log").open("ab")
        command = [*wrapper, RAY, "start", "--block", "--dashboard-agent-listen-port", "0", *arguments]
        return subprocess.Popen(command, env=self._environment | more, stdout=log, stderr=log)

    def _start_head(self) -> "subprocess.Popen[bytes]":
        arguments = [
            "--head", "--port", str(self.port), "--num-cpus", "0", "--include-dashboard", "false",
            "--redis-password", self._password, "--temp-dir", str(self.folder / "h"),
            "--object-store-memory", "100000000",
        ]  # fmt: skip
        return self._start(arguments, self._of_head, "head", APART)

    def alive(self) -> dict[str, Any]:
        """By id, the nodes with CPUs that are alive, as a driver sees them; empty where no head answers."""
        code = (
            "import json, ray; ray.init(log_to_driver=False, logging_level='ERROR'); "
            "alive = [n for n in ray.nodes() if n['Alive']]; "
            "print('NODES' + json.dumps({n['NodeID']: n['Resources'].get('CPU', 0) for n in alive}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=self._environment | {"RAY_ADDRESS": self.address},
            capture_output=True,
            text=True,
            timeout=CAME_S,
        )
        found = [line for line in done.stdout.splitlines() if line.startswith("NODES")]
        nodes: dict[str, float] = yaml.safe_load(found[0].removeprefix("NODES")) if found else {}
        return {name: cpus for name, cpus in nodes.items() if cpus}

    def wait_for_node(self) -> dict[str, Any]:
        deadline = time.monotonic() + CAME_S
        while not (found := self.alive()):
            if time.monotonic() > deadline:
                sys.exit(f"no node came:\n{(self.folder / 'head.log').read_text()[-2000:]}")
            time.sleep(0.5)
        return found

    def lose_head(self) -> None:
        kill_tree(self.head)

    def new_head(self) -> None:
        self.head = self._start_head()

    def stop(self) -> None:
        kill_tree(self.head)
        kill_tree(self.node)


def main(root: Path) -> int:
    password = secrets.token_hex(24)
    problems = []
    with tempfile.TemporaryDirectory(prefix="rh-", dir="/tmp") as short, redis(Path(short), password) as port:
        cluster = Cluster(Path(short), port, password)
        try:
            before = cluster.wait_for_node()
            print(f"ray {ray.__version__}; a node with {sum(before.values()):g} CPUs", flush=True)
            undisturbed = Job(root / "undisturbed", address=cluster.address)
            undisturbed.start()
            if status := undisturbed.to_the_end():
                sys.exit(f"the undisturbed run ended with status {status}:\n{undisturbed.said()[-3000:]}")
            job = Job(root / "run", address=cluster.address)
            job.start()
            for stage, there in (("curate", lambda: job.stage() == "curate"), ("train", lambda: job.steps() >= 12)):
                if not wait_until(there, job):
                    sys.exit(f"the job ended before {stage}:\n{job.said()[-3000:]}")
                lost = time.monotonic()
                cluster.lose_head()
                job.kill()
                time.sleep(10)  # as long as a pod takes at least
                cluster.new_head()
                after = cluster.wait_for_node()
                print(f"{stage}: the head was away for {time.monotonic() - lost:.0f} s", flush=True)
                if after.keys() != before.keys():
                    problems.append(f"{stage}: other nodes: {sorted(after)}, before {sorted(before)}")
                job.start()
            if status := job.to_the_end():
                problems.append(f"status {status}: {job.said()[-3000:]}")
            if cluster.node.poll() is not None:
                problems.append(f"the node's Ray ended with status {cluster.node.poll()}")
        finally:
            cluster.stop()
    problems += differences(root / "run", root / "undisturbed") if not problems else []
    print("; ".join(problems) or f"the same node all along; as undisturbed after {job.starts} starts of the command")
    return 1 if problems else 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
        sys.exit(main(Path(sys.argv[1]).absolute()))
    with tempfile.TemporaryDirectory(prefix="raypt-head-lost-") as scratch:
        sys.exit(main(Path(scratch)))
