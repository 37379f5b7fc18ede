"""A cluster of this machine's processes that starts and ends nodes by itself: Ray's own autoscaler (version 2) over its
simulated provider, whose nodes are raylets that say what they have. Nothing of another Ray on the machine is touched.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID

HEAD = "ray.head.default"


def node_type(most: int, labels: dict[str, str], **resources: float) -> dict[str, Any]:
    """Nodes of which there may be up to `most`, with what they say they have: CPU=2, GPU=1."""
    return {"resources": resources, "labels": labels, "node_config": {}, "min_workers": 0, "max_workers": most}


def cluster_config(types: dict[str, Any], address: str, idle_s: float) -> dict[str, Any]:
    return {
        "cluster_name": "simulated",
        "max_workers": sum(kind["max_workers"] for kind in types.values()),
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": FAKE_HEAD_NODE_ID,
            "gcs_address": address,
        },
        "available_node_types": {
            **types,
            HEAD: {"resources": {"CPU": 0}, "node_config": {}, "min_workers": 0, "max_workers": 0},
        },
        "head_node_type": HEAD,
        "upscaling_speed": 10.0,
        "idle_timeout_minutes": idle_s / 60,
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }


@dataclass(frozen=True)
class Autoscaling:
    """`address` is for ray.init and RAY_ADDRESS; `folder` is Ray's."""

    address: str
    folder: Path

    def processes(self) -> list[psutil.Process]:
        """All that belongs to this cluster: what names its folder, and what came of that."""
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid() and any(str(self.folder) in part for part in process.cmdline()):
                    found |= {p.pid: p for p in (process, *process.children(recursive=True))}
            except psutil.Error:
                continue
        return list(found.values())

    def nodes(self) -> Counter[str]:
        """Nodes that live now, without the head, by type."""
        kinds: Counter[str] = Counter()
        for process in self.processes():
            try:
                if process.name() == "raylet":
                    kinds[process.environ().get("RAY_NODE_TYPE_NAME", HEAD)] += 1
            except psutil.Error:
                continue
        del kinds[HEAD]
        return kinds

    def work(self) -> set[tuple[str, str]]:
        """(name, type of its node) of the actors and tasks that run now."""
        out = set()
        for process in self.processes():
            try:
                name = process.cmdline()[0]
                if name.startswith("ray::") and not name.startswith("ray::IDLE"):
                    out.add((name, process.environ().get("RAY_NODE_TYPE_NAME", HEAD)))
            except (psutil.Error, IndexError):
                continue
        return out


@contextmanager
def autoscaling_cluster(types: dict[str, Any], idle_s: float = 5.0) -> Iterator[Autoscaling]:
    """A head without CPUs, and as many nodes of `types` (by name) as are asked for, each until it has had nothing to do
    for `idle_s`.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"{ray.util.get_node_ip_address()}:{port}"
    with tempfile.TemporaryDirectory(prefix="ra-", dir="/tmp") as folder:  # the paths of its sockets are bounded
        config = Path(folder) / "cluster.json"
        config.write_text(json.dumps(cluster_config(types, address, idle_s)))
        command = [
            str(Path(sys.executable).with_name("ray")), "start", "--head", f"--port={port}", f"--temp-dir={folder}",
            "--num-cpus=0", f"--autoscaling-config={config}", "--include-dashboard=false", "--dashboard-port=0",
            "--disable-usage-stats",
        ]  # fmt: skip
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {
            "RAY_AUTH_MODE": "disabled",
            "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_enable_autoscaler_v2": "1",
            "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        }
        cluster = Autoscaling(address, Path(folder))
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stdout + done.stderr
            yield cluster
        finally:
            for _ in range(3):  # the autoscaler may have been starting one
                for process in cluster.processes():
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
                time.sleep(0.2)
