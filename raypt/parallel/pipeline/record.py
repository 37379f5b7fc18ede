"""When the devices of a pipeline took their actions: a step as it was, and as it would be without a wait in between."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from raypt.parallel.pipeline.schedule import Action, Name, Times, idle_formula, simulate


@dataclass(frozen=True)
class Taken:
    """An action, from when what it needs was there to when its result was."""

    action: Action
    begin: float
    """Seconds since the devices of the pipeline met before the step."""
    end: float


@dataclass(frozen=True)
class StepRecord:
    """One step of one pipeline."""

    schedule: Name
    virtual: int
    """Parts a device has."""
    devices: tuple[tuple[Taken, ...], ...]
    """What each did, in the order in which it was done."""
    peak_bytes: tuple[int, ...]
    """Activations that each held at most at one time."""
    layers: tuple[tuple[int, ...], ...]
    """Of the parts of each."""

    @property
    def micro_batches(self) -> int:
        return 1 + max(taken.action.micro for taken in self.devices[0])

    @property
    def begin(self) -> float:
        return min(taken.begin for device in self.devices for taken in device)

    @property
    def span(self) -> float:
        """Seconds from the first action's begin to the last one's end."""
        return max(taken.end for device in self.devices for taken in device) - self.begin

    @property
    def busy(self) -> tuple[float, ...]:
        """Seconds that each device was at an action."""
        return tuple(sum(taken.end - taken.begin for taken in device) for device in self.devices)

    @property
    def idle_share(self) -> float:
        """Of all devices' time from the first action's begin to the last one's end."""
        return 1 - sum(self.busy) / (len(self.devices) * self.span)

    @property
    def idle_formula(self) -> float:
        """What it would be if all actions of a kind took the same time and sending none."""
        return idle_formula(self.schedule, len(self.devices), self.micro_batches, self.virtual)

    def ideal(self) -> Times:
        """The same actions if each took the mean time of its kind, and sending none."""
        return self._simulated(lambda action: action.kind)

    def as_cut(self) -> Times:
        """The same actions if each took the mean time of its kind and part, and sending none: what is idle then comes
        of the order and of how the layers are dealt out.
        """
        return self._simulated(lambda action: (action.kind, action.part))

    def _simulated(self, group: Callable[[Action], object]) -> Times:
        seconds: dict[object, list[float]] = {}
        for device in self.devices:
            for taken in device:
                seconds.setdefault(group(taken.action), []).append(taken.end - taken.begin)
        mean = {key: fmean(values) for key, values in seconds.items()}
        order = tuple(tuple(taken.action for taken in device) for device in self.devices)
        return simulate(order, lambda action: mean[group(action)])

    def to_json(self) -> dict[str, Any]:
        """Times in microseconds since the first begin."""
        first = self.begin
        return {
            "schedule": self.schedule,
            "virtual": self.virtual,
            "peak_bytes": list(self.peak_bytes),
            "layers": self.layers,
            "devices": [
                [[*t.action, round(1e6 * (t.begin - first)), round(1e6 * (t.end - first))] for t in device]
                for device in self.devices
            ],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "StepRecord":
        devices = tuple(
            tuple(Taken(Action(kind, part, m), begin / 1e6, end / 1e6) for kind, part, m, begin, end in device)
            for device in value["devices"]
        )
        layers = tuple(tuple(each) for each in value["layers"])
        return cls(value["schedule"], value["virtual"], devices, tuple(value["peak_bytes"]), layers)


@dataclass(frozen=True)
class DeviceRecord:
    """What one device knows of a step."""

    taken: Sequence[Taken]
    peak_bytes: int
    layers: tuple[int, ...]
