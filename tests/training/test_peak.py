"""The machine's own peak, measured in a moment whatever the type."""

import logging
import time

import pytest
import torch

from raypt.training import peak

CPU = torch.device("cpu")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_peak_is_measured_in_a_moment_also_without_instructions_for_the_type(precision: str) -> None:
    """Of products of 1536 it took a minute in bf16 on a CPU with AVX2 alone; five times the second that is said, for
    the cores are shared."""
    started = time.process_time()
    assert 1e8 < peak.matmul_flops(CPU, precision) < 1e14
    assert time.process_time() - started < 5 * torch.get_num_threads()


@pytest.mark.parametrize(("of_fp32", "said"), [(0.4, True), (0.9, False)])
def test_bf16_is_warned_of_where_it_is_slower_than_fp32(
    of_fp32: float, said: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(peak, "matmul_flops", lambda device, precision: 1e9 * (of_fp32 if precision == "bf16" else 1))
    with caplog.at_level(logging.WARNING, logger="raypt"):
        peak.warn_of_slow_bf16()
    assert ("set train.precision=fp32" in caplog.text) == said
