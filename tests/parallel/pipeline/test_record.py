"""Recorded steps of pipelines."""

import json

import pytest

from raypt.parallel.pipeline.record import StepRecord, Taken
from raypt.parallel.pipeline.schedule import Action, Name, schedule_of, simulate

SCHEDULES: list[tuple[Name, int]] = [
    ("gpipe", 1),
    ("1f1b", 1),
    ("interleaved_1f1b", 2),
    ("zero_bubble", 1),
    ("zero_bubble", 2),
]


def unit(action: Action) -> float:
    return 1.0


def recorded(name: Name, virtual: int, devices: int = 4, micro: int = 8) -> StepRecord:
    """As if every action took a second, from half a second after the devices met."""
    schedule = schedule_of(name, devices, micro, virtual)
    spans = simulate(schedule, unit).spans
    taken = tuple(tuple(Taken(a, spans[a][0] + 0.5, spans[a][1] + 0.5) for a in actions) for actions in schedule)
    return StepRecord(name, virtual, taken, tuple(range(devices)), tuple((d + 3,) * virtual for d in range(devices)))


@pytest.mark.parametrize(("name", "virtual"), SCHEDULES)
def test_a_step_without_delays_idles_as_its_simulation_does(name: Name, virtual: int) -> None:
    record = recorded(name, virtual)
    ideal = simulate(schedule_of(name, 4, 8, virtual), unit)
    assert record.span == ideal.end
    assert record.idle_share == pytest.approx(ideal.idle_share, abs=1e-12)
    assert record.ideal() == ideal
    assert record.micro_batches == 8


def test_time_between_the_first_begin_and_the_last_end_in_which_a_device_does_nothing_is_idle() -> None:
    first = Taken(Action("forward", 0, 0), 1.0, 3.0), Taken(Action("backward", 0, 0), 8.0, 11.0)
    second = Taken(Action("forward", 1, 0), 3.5, 5.0), Taken(Action("backward", 1, 0), 5.0, 7.0)
    record = StepRecord("1f1b", 1, (first, second), (0, 0), ((1,), (1,)))
    assert record.span == 10.0
    assert record.busy == (5.0, 3.5)
    assert record.idle_share == pytest.approx(1 - (5 + 3.5) / 20, abs=1e-12)
    assert record.ideal().end == pytest.approx(1.75 + 1.75 + 2.5 + 2.5, abs=1e-12)
    assert record.as_cut().end == pytest.approx(2 + 1.5 + 2 + 3, abs=1e-12)
    assert record.as_cut().busy == pytest.approx(record.busy, abs=1e-12)


def test_a_record_comes_back_from_a_file_with_its_times_since_the_first_begin() -> None:
    record = recorded("zero_bubble", 2)
    again = StepRecord.from_json(json.loads(json.dumps(record.to_json())))
    assert (again.begin, again.span, again.idle_share) == (0.0, record.span, pytest.approx(record.idle_share, abs=1e-9))
    assert again.peak_bytes == (0, 1, 2, 3)
    assert again.layers == ((3, 3), (4, 4), (5, 5), (6, 6))
    assert again.ideal() == record.ideal()
