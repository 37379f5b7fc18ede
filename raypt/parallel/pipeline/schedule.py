"""In which order the devices of a pipeline take their actions: plain lists, and what they cost by themselves.

A model is cut into `devices` x `virtual` parts, in the layers' order; part k is on device k mod devices, so that with
several a device a micro-batch passes each device so often (Narayanan et al. 2021).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["forward", "backward", "weight"]
"""With weight actions in a schedule, its backward ones are of the inputs alone, and hand on what the stage before waits
for; the gradients of weights, which nobody waits for, are apart (Qi et al. 2023)."""
Name = Literal["gpipe", "1f1b", "interleaved_1f1b", "zero_bubble"]


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


def interleaved(devices: int, micro_batches: int, virtual: int) -> Schedule:
    """The same with several parts a device, which divides the idle time by their number (Narayanan et al. 2021, section
    2.2). Micro-batches go through a part in groups of as many as there are devices.

    Raises:
        ValueError: the micro-batches do not make up whole groups.
    """
    out = []
    for device in range(devices):
        forward, backward = _turns(device, devices, micro_batches, virtual)
        out.append(_alternating(forward, backward, 2 * (devices - 1 - device) + (virtual - 1) * devices))
    return tuple(out)


def zero_bubble(devices: int, micro_batches: int, virtual: int = 1) -> Schedule:
    """ZB-H1 (Qi et al. 2023, section 3), or with several parts a device its interleaving: backward in two actions, and
    those of weights where a device would wait. Holds what 1F1B holds, since a device further behind, which has fewer
    micro-batches in flight, puts off as many more weights' gradients.

    Raises:
        ValueError: as `interleaved`.
    """
    out = []
    for device in range(devices):
        forward, backward = _turns(device, devices, micro_batches, virtual)
        ahead = min((devices - 1 - device) + (virtual - 1) * devices, len(forward))
        weights = [Action("weight", a.part, a.micro) for a in backward]
        actions = list(forward[:ahead])
        for i, action in enumerate(backward):
            actions += [*forward[ahead + i : ahead + i + 1], action]
            done = i + 1 - device
            if done > 0:
                actions.append(weights[done - 1])
        out.append((*actions, *weights[max(len(weights) - device, 0) :]))
    return tuple(out)


def _turns(device: int, devices: int, micro_batches: int, virtual: int) -> tuple[list[Action], list[Action]]:
    """A device's forward and its backward actions."""
    if micro_batches % devices and virtual > 1:
        raise ValueError(f"{micro_batches} micro-batches do not make up groups of {devices}")
    turns = [(m, part) for part, m in forward_turns(devices, micro_batches, virtual)]
    forward = [Action("forward", part * devices + device, m) for m, part in turns]
    backward = [Action("backward", (virtual - 1 - part) * devices + device, m) for m, part in turns]
    return forward, backward


def forward_turns(devices: int, micro_batches: int, virtual: int) -> list[tuple[int, int]]:
    """In which order any device takes (its part, micro-batch), in groups of as many micro-batches as devices."""
    return [
        (part, m)
        for first in range(0, micro_batches, devices)
        for part in range(virtual)
        for m in range(first, min(first + devices, micro_batches))
    ]


def schedule_of(name: Name, devices: int, micro_batches: int, virtual: int) -> Schedule:
    """By `train.parallel.schedule`.

    Raises:
        ValueError: as `interleaved`.
    """
    if name == "interleaved_1f1b":
        return interleaved(devices, micro_batches, virtual)
    if name == "zero_bubble":
        return zero_bubble(devices, micro_batches, virtual)
    assert virtual == 1
    return gpipe(devices, micro_batches) if name == "gpipe" else one_forward_one_backward(devices, micro_batches)


def idle_formula(name: Name, devices: int, micro_batches: int, virtual: int) -> float:
    """The share of a step that devices idle where all parts cost the same, and a part's gradients of inputs and of
    weights as much each as its forward pass: b / (1 + b) with b = (p - 1) / (v m), a third of it for zero-bubble.
    """
    bubble = (devices - 1) / (virtual * micro_batches * (3 if name == "zero_bubble" else 1))
    return bubble / (1 + bubble)


def is_split(schedule: Sequence[Sequence[Action]]) -> bool:
    """Whether the gradients of weights are actions of their own."""
    return any(action.kind == "weight" for actions in schedule for action in actions)


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
    if kind == "weight":
        return [Action("backward", part, micro)]
    own = [Action("forward", part, micro)]
    return own if part == last else [*own, Action("backward", part + 1, micro)]


def most_in_flight(actions: Sequence[Action]) -> int:
    """Forward actions of a device whose activations exist together, at most: those not yet followed by their last
    backward one. With several parts a device, each is of a part.
    """
    ends = "weight" if is_split([actions]) else "backward"
    most = now = 0
    for action in actions:
        now += (action.kind == "forward") - (action.kind == ends)
        most = max(most, now)
    return most
