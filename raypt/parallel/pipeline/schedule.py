"""In which order the devices of a pipeline take their actions: plain lists, and what they cost by themselves.

A model is cut into `devices` x `virtual` parts, in the layers' order; part k is on device k mod devices, so that with
several a device a micro-batch passes each device so often (Narayanan et al. 2021).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["forward", "backward"]


class Action(NamedTuple):
    """What a device does without a break."""

    kind: Kind
    part: int
    micro: int
    """The micro-batch."""


Schedule = tuple[tuple[Action, ...], ...]
"""The actions of each device, in their order."""


def gpipe(devices: int, micro_batches: int) -> Schedule:
    """All forward, then all backward (Huang et al. 2019): every micro-batch's activations exist at one time."""
    return tuple(
        tuple(Action(kind, device, m) for kind in ("forward", "backward") for m in range(micro_batches))
        for device in range(devices)
    )


def one_forward_one_backward(devices: int, micro_batches: int) -> Schedule:
    """Backward as early as it can be (Narayanan et al. 2019, flushed after each step): a device holds activations of no
    more micro-batches than there are devices behind it and itself.
    """
    return tuple(
        _alternating(
            [Action("forward", device, m) for m in range(micro_batches)],
            [Action("backward", device, m) for m in range(micro_batches)],
            devices - 1 - device,
        )
        for device in range(devices)
    )


SCHEDULES: dict[str, Callable[[int, int], Schedule]] = {"gpipe": gpipe, "1f1b": one_forward_one_backward}
"""Those of one part a device, by `train.parallel.schedule`."""


def interleaved(devices: int, micro_batches: int, virtual: int) -> Schedule:
    """The same with several parts a device, which divides the idle time by their number (Narayanan et al. 2021, section
    2.2). Micro-batches go through a part in groups of as many as there are devices.

    Raises:
        ValueError: the micro-batches do not make up whole groups.
    """
    if micro_batches % devices:
        raise ValueError(f"{micro_batches} micro-batches do not make up groups of {devices}")
    out = []
    for device in range(devices):
        turns = [
            (first + m, part)
            for first in range(0, micro_batches, devices)
            for part in range(virtual)
            for m in range(devices)
        ]
        forward = [Action("forward", part * devices + device, m) for m, part in turns]
        backward = [Action("backward", (virtual - 1 - part) * devices + device, m) for m, part in turns]
        out.append(_alternating(forward, backward, 2 * (devices - 1 - device) + (virtual - 1) * devices))
    return tuple(out)


def _alternating(forward: Sequence[Action], backward: Sequence[Action], ahead: int) -> tuple[Action, ...]:
    """`ahead` forward actions, then one forward and one backward in turn, then what is left of the backward ones."""
    ahead = min(ahead, len(forward))
    steady = [a for pair in zip(forward[ahead:], backward, strict=False) for a in pair]
    return (*forward[:ahead], *steady, *backward[len(forward) - ahead :])


@dataclass(frozen=True)
class Times:
    """When actions begin and end, in the unit of their costs."""

    spans: Mapping[Action, tuple[float, float]]
    end: float
    """Of the last one; the first begins at 0."""
    busy: tuple[float, ...]
    """By device."""

    @property
    def idle_share(self) -> float:
        """Of the time of all devices."""
        return 1 - sum(self.busy) / (len(self.busy) * self.end)


def simulate(schedule: Schedule, cost: Callable[[Action], float]) -> Times:
    """Each action begins as soon as its device is free and what it needs is done; sending takes no time.

    Raises:
        ValueError: an action waits for one that never comes, or comes after it on the same device.
    """
    last = max(action.part for device in schedule for action in device)
    spans: dict[Action, tuple[float, float]] = {}
    done, free = [0] * len(schedule), [0.0] * len(schedule)
    moved = True
    while moved:
        moved = False
        for device, actions in enumerate(schedule):
            while done[device] < len(actions):
                action = actions[done[device]]
                needs = needed(action, last)
                if any(need not in spans for need in needs):
                    break
                begin = max([free[device], *(spans[need][1] for need in needs)])
                free[device] = begin + cost(action)
                spans[action] = (begin, free[device])
                done[device] += 1
                moved = True
    for device, actions in enumerate(schedule):
        if done[device] < len(actions):
            raise ValueError(f"device {device} waits for ever before {actions[done[device]]}")
    busy = tuple(sum(cost(action) for action in actions) for actions in schedule)
    return Times(spans, max(free), busy)


def needed(action: Action, last: int) -> list[Action]:
    """What must have been done before; `last`: the model's last part."""
    kind, part, micro = action
    if kind == "forward":
        return [Action("forward", part - 1, micro)] if part else []
    own = [Action("forward", part, micro)]
    return own if part == last else [*own, Action("backward", part + 1, micro)]


def most_in_flight(actions: Sequence[Action]) -> int:
    """Forward actions of a device whose activations exist together, at most: those not yet followed by their backward
    one. With several parts a device, each is of a part.
    """
    most = now = 0
    for action in actions:
        now += 1 if action.kind == "forward" else -1
        most = max(most, now)
    return most
