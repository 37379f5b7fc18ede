"""Schedules of pipelines, by a simulation in unit costs."""

from fractions import Fraction

import pytest

from raypt.parallel.pipeline.schedule import (
    Action,
    Schedule,
    gpipe,
    interleaved,
    most_in_flight,
    one_forward_one_backward,
    simulate,
)

SHAPES = [(1, 1), (1, 4), (2, 2), (2, 8), (3, 6), (4, 4), (4, 8), (4, 32), (8, 16)]
"""Devices and micro-batches."""


def cost(action: Action) -> int:
    """Two products a weight backward, one forward."""
    return 1 if action.kind == "forward" else 2


def made(name: str, devices: int, micro_batches: int, virtual: int) -> Schedule:
    if name == "interleaved":
        return interleaved(devices, micro_batches, virtual)
    return {"gpipe": gpipe, "1f1b": one_forward_one_backward}[name](devices, micro_batches)


CASES = [
    (name, virtual, devices, micro)
    for name, virtual in (("gpipe", 1), ("1f1b", 1), ("interleaved", 1), ("interleaved", 2), ("interleaved", 3))
    for devices, micro in SHAPES
]


@pytest.mark.parametrize(("name", "virtual", "devices", "micro"), CASES)
def test_every_part_sees_every_micro_batch_once_forward_and_once_backward(
    name: str, virtual: int, devices: int, micro: int
) -> None:
    schedule = made(name, devices, micro, virtual)
    assert len(schedule) == devices
    for device, actions in enumerate(schedule):
        parts = range(device, devices * virtual, devices)
        every = {(kind, part, m) for kind in ("forward", "backward") for part in parts for m in range(micro)}
        assert len(actions) == len(every)
        assert set(actions) == every


@pytest.mark.parametrize(("name", "virtual", "devices", "micro"), CASES)
def test_devices_idle_exactly_as_long_as_the_formula_says(name: str, virtual: int, devices: int, micro: int) -> None:
    """(p - 1) / (v m) of the time that the work itself takes (Narayanan et al. 2021, section 2.2)."""
    times = simulate(made(name, devices, micro, virtual), cost)
    ideal = 3 * micro * virtual
    assert set(times.busy) == {ideal}
    over = Fraction(int(times.end), ideal) - 1
    assert over == Fraction(devices - 1, virtual * micro)
    share = over / (1 + over)
    assert times.idle_share == pytest.approx(float(share), abs=1e-12)


@pytest.mark.parametrize(("devices", "micro"), SHAPES)
def test_activations_are_held_of_all_micro_batches_by_gpipe_and_of_one_a_device_by_1f1b(
    devices: int, micro: int
) -> None:
    assert [most_in_flight(a) for a in gpipe(devices, micro)] == [micro] * devices
    held = [most_in_flight(a) for a in one_forward_one_backward(devices, micro)]
    assert held == [min(micro, devices - device) for device in range(devices)]


def test_interleaving_two_parts_a_device_holds_half_a_pipeline_more() -> None:
    halves = [most_in_flight(a) for a in interleaved(4, 8, 2)]
    assert max(halves) / 2 == 4 + 1.5


def test_micro_batches_that_make_no_whole_groups_cannot_be_interleaved() -> None:
    with pytest.raises(ValueError, match="6 micro-batches do not make up groups of 4"):
        interleaved(4, 6, 2)


def test_a_schedule_that_would_wait_for_ever_is_found() -> None:
    forward = Action("forward", 0, 0)
    with pytest.raises(ValueError, match="device 0 waits for ever"):
        simulate(((Action("backward", 0, 0), forward),), cost)
