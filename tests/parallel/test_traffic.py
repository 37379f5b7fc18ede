"""The traffic model: its figures are those counted in the collectives of real steps."""

from typing import Any

import pytest

from raypt.parallel.traffic import local_sgd_bytes, parameter_server_bytes, zero_bytes
from tests.parallel.cases import ACCUMULATION
from tests.parallel.ranks import run_ranks

LIVE = 1e9
"""DeepSpeed's stage3_max_live_parameters: more than the model has."""


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    out = tmp_path_factory.mktemp("traffic")
    return run_ranks(2, "tests.parallel.traffic_cases", "counted", out, precisions=["fp32", "bf16"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", range(4))
def test_the_bytes_of_a_zero_step_are_those_counted_in_its_collectives(
    stage: int, precision: str, counted: list[Any]
) -> None:
    """To a thousandth: sums of losses and norms, and the padding of flat buffers, are some hundred bytes of megabytes.
    Gradients travel in float32 whatever the model computes in."""
    for of_rank in counted:
        micro, step = zero_bytes(
            of_rank["parameters"],
            2,
            stage,
            weight=4 if precision == "fp32" else 2,
            gradient=4,
            whole=of_rank["whole"] if stage == 3 else 0,
            live=LIVE,
            scatters=False,
        )
        assert 0 < of_rank["whole"] < of_rank["parameters"]
        assert of_rank[f"{precision}-{stage}"] == pytest.approx(ACCUMULATION * micro + step, rel=1e-3)


@pytest.mark.fast
@pytest.mark.parametrize(("stage", "micro", "step"), [(0, 0, 16), (1, 0, 16), (2, 16, 8), (3, 24, 0)])
def test_a_rank_sends_what_a_ring_moves(stage: int, micro: int, step: int) -> None:
    """4 parameters and gradients of 4 bytes over 2 ranks: (n - 1) / n = 1 / 2 of what is gathered or scattered, twice
    that of what is reduced to all."""
    assert zero_bytes(4, 2, stage, weight=4, gradient=4) == (micro, step)


@pytest.mark.fast
def test_what_workers_send_the_servers_receive() -> None:
    found = parameter_server_bytes(1e6, 8, 3, weight=4, gradient=2)
    assert 8 * found.worker_sends == pytest.approx(3 * found.server_receives)
    assert 8 * found.worker_receives == pytest.approx(3 * found.server_sends)
    assert found.worker_sends == 2e6 and found.worker_receives == 4e6


@pytest.mark.fast
def test_local_sgd_moves_a_step_of_zero_0_once_in_h() -> None:
    _, step = zero_bytes(1e6, 4, 0, weight=4, gradient=4)
    assert local_sgd_bytes(1e6, 4, 50, value=4) == pytest.approx(step / 50)
    assert local_sgd_bytes(1e6, 4, 50, value=0.5) == pytest.approx(step / 400)
