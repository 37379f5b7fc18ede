"""What a cluster had and what of it was reserved while a job worked, by stage: hardware and device hours.

Taken from the looks at the cluster that `raypt.node_waits` makes anyway: no request more. Between two looks (5 s) it is
taken to have stayed as it was. Reserved is what Ray had given to tasks, actors and placement groups: other jobs' on a
shared cluster too. Nothing depends on it; without a Ray there is none.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

DEVICES = ("CPU", "GPU")
KIND = "accelerator_type:"
"""Beginning of the resource by which Ray says what GPUs a node has."""
BEFORE = "before the first stage"


@dataclass(frozen=True)
class Machine:
    """A node as Ray counts it."""

    cpus: float
    gpus: float
    kind: str
    """Of its GPUs, as Ray names it ("H100"); "" where it does not."""
    memory_gib: int
    """What Ray lets tasks ask for, whole GiB."""

    @staticmethod
    def of(total: Mapping[str, float]) -> "Machine":
        """From a node's resources."""
        gpus = total.get("GPU", 0.0)
        kinds = sorted(name.removeprefix(KIND) for name in total if name.startswith(KIND))
        kind = kinds[0] if gpus and kinds else ""
        return Machine(total.get("CPU", 0.0), gpus, kind, int(total.get("memory", 0.0) / 2**30))

    def __str__(self) -> str:
        gpus = f", {self.gpus:g} {self.kind or 'GPU'}" if self.gpus else ""
        return f"{self.cpus:g} CPUs{gpus}, {self.memory_gib} GiB"


class ClusterUse:
    """The driver's account, of one start of a job."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Another start begins."""
        with self._lock:
            self._stage = BEFORE
            self._at: float | None = None
            self._now: dict[str, tuple[float, float]] = {}
            self._most: Counter[Machine] = Counter()
            self._stages: dict[str, dict[str, float]] = {}

    def stage(self, name: str) -> None:
        """A stage begins; the one before has ended."""
        with self._lock:
            self._pass()
            self._stage = name

    def look(self, nodes: Iterable[tuple[Mapping[str, float], Mapping[str, float]]]) -> None:
        """Take in (resources, those in use) of every node that is there."""
        nodes = list(nodes)
        with self._lock:
            self._pass()
            self._at = self._clock()
            self._now = {
                device: (sum(used.get(device, 0.0) for _, used in nodes), sum(has.get(device, 0.0) for has, _ in nodes))
                for device in DEVICES
            }
            for machine, count in Counter(Machine.of(has) for has, _ in nodes).items():
                self._most[machine] = max(self._most[machine], count)

    def end(self) -> None:
        """The cluster is left."""
        with self._lock:
            self._pass()
            self._at = None

    def _pass(self) -> None:
        if self._at is None:
            return
        now = self._clock()
        took, self._at = now - self._at, now
        of = self._stages.setdefault(self._stage, {"seconds": 0.0})
        of["seconds"] += took
        for device, (reserved, there) in self._now.items():
            for key, n in ((f"{device.lower()}_s", reserved), (f"{device.lower()}_there_s", there)):
                of[key] = of.get(key, 0.0) + took * n

    def to_json(self) -> dict[str, Any] | None:
        """{machines: [[description, most at a time], ...], stages: {name: {seconds, cpu_s,
        cpu_there_s, gpu_s, gpu_there_s}}}, device-seconds; None where no cluster was looked at.
        """
        with self._lock:
            self._pass()
            if not self._most:
                return None
            ordered = sorted(self._most.items(), key=lambda item: (-item[0].gpus, -item[0].cpus, str(item[0])))
            stages = {name: {k: round(v, 1) for k, v in of.items()} for name, of in self._stages.items()}
            return {"machines": [[str(machine), count] for machine, count in ordered], "stages": stages}


USE = ClusterUse()
"""That of the job in this process."""
