"""The rule of loss spikes and of jumps of the gradient's norm."""

from raypt.training.spike import limit

CALM = [3.0, 3.1, 2.9, 3.0, 3.05, 2.95, 3.0, 3.1]


def is_spike(recent: list[float], value: float) -> bool:
    most = limit(4.0, 8, recent)
    return most is not None and value > most


def test_a_jump_above_sigma_deviations_is_a_spike() -> None:
    assert is_spike(CALM, 4.0)


def test_ordinary_noise_is_not() -> None:
    assert not is_spike(CALM, 3.2)


def test_a_fall_is_never_a_spike() -> None:
    assert not is_spike(CALM, 0.1)


def test_the_rule_is_silent_until_its_window_is_full() -> None:
    assert not is_spike(CALM[:7], 100.0)


def test_only_the_last_window_counts() -> None:
    assert is_spike([50.0] * 8 + CALM, 4.0)


def test_a_flat_loss_does_not_spike_on_noise() -> None:
    assert not is_spike([3.0] * 8, 3.001)
