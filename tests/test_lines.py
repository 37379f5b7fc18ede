"""When training says where it is."""

from raypt.lines import Lines


def said(step_s: float, steps: int) -> list[float]:
    now = 0.0
    lines = Lines(lambda: now)
    out = []
    for _ in range(steps):
        if lines.due():
            out.append(now)
        now += step_s
    return out


def test_the_first_step_has_a_line_and_then_every_ten_seconds_at_first() -> None:
    assert said(0.5, 120) == [10.0 * i for i in range(6)]


def test_a_run_of_some_minutes_fits_a_screen() -> None:
    assert len(said(1.0, 400)) <= 18


def test_a_month_has_a_line_a_minute() -> None:
    times = said(5.0, 30 * 24 * 720)
    assert [b - a for a, b in zip(times[-3:], times[-2:], strict=False)] == [60.0, 60.0]
    assert len(times) < 30 * 24 * 61


def test_no_two_lines_of_slow_steps_are_left_out() -> None:
    assert len(said(120.0, 50)) == 50
