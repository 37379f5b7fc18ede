"""Schedules of pipelines, by a simulation in unit costs."""

from fractions import Fraction

import pytest

from raypt.parallel.pipeline.schedule import (
    Action,
    Name,
    gpipe,
    idle_formula,
    interleaved,
    is_split,
    most_in_flight,
    one_forward_one_backward,
    schedule_of,
    simulate,
    zero_bubble,
)

SHAPES = [(1, 1), (1, 4), (2, 2), (2, 8), (3, 6), (4, 4), (4, 8), (4, 32), (8, 16)]
"""Devices and micro-batches."""


def cost(action: Action) -> int:
    """Two products a weight backward, one forward."""
    return 2 if action.kind == "backward" else 1


def split_cost(action: Action) -> int:
    """One product a weight, whichever."""
    return 1


CASES: list[tuple[Name, int, int, int]] = [
    (name, virtual, devices, micro)
    for name, virtual in (
        ("gpipe", 1), ("1f1b", 1), ("interleaved_1f1b", 1), ("interleaved_1f1b", 2), ("interleaved_1f1b", 3),
        ("zero_bubble", 1), ("zero_bubble", 2), ("zero_bubble", 3),
    )
    for devices, micro in SHAPES
]  # fmt: skip


@pytest.mark.parametrize(("name", "virtual", "devices", "micro"), CASES)
def test_every_part_sees_every_micro_batch_once_in_each_kind_of_action(
    name: Name, virtual: int, devices: int, micro: int
) -> None:
    schedule = schedule_of(name, devices, micro, virtual)
    assert is_split(schedule) == (name == "zero_bubble")
    kinds = ("forward", "backward", "weight") if name == "zero_bubble" else ("forward", "backward")
    assert len(schedule) == devices
    for device, actions in enumerate(schedule):
        parts = range(device, devices * virtual, devices)
        every = {(kind, part, m) for kind in kinds for part in parts for m in range(micro)}
        assert len(actions) == len(every)
        assert set(actions) == every


@pytest.mark.parametrize(("name", "virtual", "devices", "micro"), CASES)
def test_devices_idle_exactly_as_long_as_the_formula_says(name: Name, virtual: int, devices: int, micro: int) -> None:
    """(p - 1) / (v m) of the time that the work itself takes (Narayanan et al. 2021, section 2.2), a third of it where
    gradients of weights are apart (Qi et al. 2023, table 2, all three costs being equal)."""
    schedule = schedule_of(name, devices, micro, virtual)
    times = simulate(schedule, split_cost if name == "zero_bubble" else cost)
    ideal = 3 * micro * virtual
    assert set(times.busy) == {ideal}
    over = Fraction(int(times.end), ideal) - 1
    assert over == Fraction(devices - 1, virtual * micro * (3 if name == "zero_bubble" else 1))
    share = over / (1 + over)
    assert times.idle_share == pytest.approx(float(share), abs=1e-12)
    assert idle_formula(name, devices, micro, virtual) == pytest.approx(float(share), abs=1e-12)


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


@pytest.mark.parametrize("virtual", [1, 2, 3])
@pytest.mark.parametrize(("devices", "micro"), [shape for shape in SHAPES if shape[1] >= shape[0]])
def test_zero_bubble_holds_on_every_device_the_activations_of_as_many_micro_batches_as_there_are_devices(
    devices: int, micro: int, virtual: int
) -> None:
    assert [most_in_flight(a) / virtual for a in zero_bubble(devices, micro, virtual)] == [devices] * devices


def test_fewer_micro_batches_than_devices_pass_through_one_part_a_device() -> None:
    for name in ("gpipe", "1f1b", "zero_bubble"):
        assert simulate(schedule_of(name, 4, 2, 1), split_cost).end > 0


def test_micro_batches_that_make_no_whole_groups_cannot_be_interleaved() -> None:
    with pytest.raises(ValueError, match="6 micro-batches do not make up groups of 4"):
        interleaved(4, 6, 2)


def test_a_schedule_that_would_wait_for_ever_is_found() -> None:
    forward = Action("forward", 0, 0)
    with pytest.raises(ValueError, match="device 0 waits for ever"):
        simulate(((Action("backward", 0, 0), forward),), cost)
