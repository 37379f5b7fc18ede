"""The loss-spike rule."""

from raypt.training.config import SpikeConfig
from raypt.training.spike import is_spike

CONFIG = SpikeConfig(sigma=4.0, window=8)
CALM = [3.0, 3.1, 2.9, 3.0, 3.05, 2.95, 3.0, 3.1]


def test_a_jump_above_sigma_deviations_is_a_spike() -> None:
    assert is_spike(CONFIG, CALM, 4.0)


def test_ordinary_noise_is_not() -> None:
    assert not is_spike(CONFIG, CALM, 3.2)


def test_a_fall_is_never_a_spike() -> None:
    assert not is_spike(CONFIG, CALM, 0.1)


def test_the_rule_is_silent_until_its_window_is_full() -> None:
    assert not is_spike(CONFIG, CALM[:7], 100.0)


def test_only_the_last_window_counts() -> None:
    assert is_spike(CONFIG, [50.0] * 8 + CALM, 4.0)


def test_a_flat_loss_does_not_spike_on_noise() -> None:
    assert not is_spike(CONFIG, [3.0] * 8, 3.001)
