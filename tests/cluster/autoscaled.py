"""The main job on a simulated cluster that starts and ends nodes by itself: python -m tests.cluster.autoscaled [DIR]

No node at first, CPU nodes for the data stages, GPU nodes (they say that they have one) for training beside them, none
at last. Prints what ran where and how many nodes of a type there were at once; exit 1 if that is not as it should be.
One to two minutes; starts Ray. `tests/cluster/test_autoscaling.py` has the data side alone.
"""

import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.autoscaling import HEAD, Autoscaling, autoscaling_cluster, node_type
from tests.jobs.helpers import ROOT, TINY, environment, metrics

STEPS = 4
OPTIONS = [
    *TINY,
    "corpus.shard_bytes=40k",
    "curation.stages=[language, gopher_quality]",
    "curation.quality.reference=[]",
    "ray.autoscaling=true",
    "ray.labels={raypt/pool: cpu}",
    "train.labels={raypt/pool: gpu}",
    "train.workers=2",
    "train.cpus_per_worker=1",
    f"train.steps={STEPS}",
]
NODES = {"cpu": node_type(2, {"raypt/pool": "cpu"}, CPU=2), "gpu": node_type(2, {"raypt/pool": "gpu"}, CPU=1, GPU=1)}
RANKS = ("RayTrainWorker", "execute")
"""What training workers call themselves, at rest and at work."""
ANYWHERE = ("PreemptionWatcher",)
"""Ray Train's, which asks for no CPU and no label: Ray places it on any node. It goes with the workers."""


@dataclass
class Seen:
    """What was seen from outside while a job ran."""

    status: int = -1
    log: str = ""
    work: set[tuple[str, str]] = field(default_factory=set)
    """(name of an actor or task, type of the node that it ran on)."""
    most: dict[str, int] = field(default_factory=dict)
    """Nodes at once, by type."""
    nodes_at_last: int = -1

    def places(self) -> dict[str, set[str]]:
        """The types of nodes that each class of actors, or task, ran on."""
        out: dict[str, set[str]] = {}
        for name, kind in self.work:
            out.setdefault(re.split(r"[.:(]", name.removeprefix("ray::"))[0], set()).add(kind)
        return out


def run(cluster: Autoscaling, script: str, *options: str, cwd: Path, until_empty_s: float = 30.0) -> Seen:
    """The job on the cluster, to its end and that of the nodes."""
    command = [sys.executable, str(ROOT / "jobs" / script), *OPTIONS, *options]
    own = environment() | {"RAY_ADDRESS": cluster.address, "RAY_AUTH_MODE": "disabled"}
    seen, log = Seen(), cwd / "log.txt"
    process = subprocess.Popen(command, cwd=cwd, stdout=log.open("wb"), stderr=subprocess.STDOUT, env=own)
    try:
        while process.poll() is None:
            seen.work |= cluster.work()
            for kind, count in cluster.nodes().items():
                seen.most[kind] = max(count, seen.most.get(kind, 0))
            time.sleep(0.3)
    finally:
        process.kill()
    seen.log, seen.status = log.read_text(), process.returncode
    deadline = time.monotonic() + until_empty_s
    while time.monotonic() < deadline and seen.nodes_at_last != 0:
        seen.nodes_at_last = sum(cluster.nodes().values())
        time.sleep(0.3)
    return seen


def main(root: Path) -> int:
    with autoscaling_cluster(NODES, idle_s=6) as cluster:
        begun = time.monotonic()
        seen = run(cluster, "pretrain.py", f"run.dir={root}/run", cwd=root)
        seconds = time.monotonic() - begun
    places = seen.places()
    for name, kinds in sorted(places.items()):
        print(f"{name}: {', '.join(sorted(kinds))}")
    print(f"most nodes at once: {seen.most}; at last: {seen.nodes_at_last}; {seconds:.0f} s")
    strangers = [name for name, kinds in places.items() if "gpu" in kinds and name not in (*RANKS, *ANYWHERE)]
    right = (
        seen.status == 0
        and [row["step"] for row in metrics(root / "run")] == list(range(1, STEPS + 1))
        and places.get("RayTrainWorker") == {"gpu"}
        and places.get("MapWorker", set()) - {HEAD} == {"cpu"}
        and not strangers
        and seen.most == {"cpu": 2, "gpu": 2}
        and seen.nodes_at_last == 0
    )
    print("as it should be" if right else f"NOT as it should be (exit {seen.status}; {strangers}):\n{seen.log[-3000:]}")
    return 0 if right else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(main(Path(sys.argv[1]).absolute()))
    with tempfile.TemporaryDirectory(prefix="raypt-autoscaled-") as scratch:
        sys.exit(main(Path(scratch)))
