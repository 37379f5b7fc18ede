"""Training through parameter servers, as Ray actors: ZeRO 0's arithmetic, and checkpoints that either goes on from.

With two workers; `RAYPT_TEST_WORKERS="2 4" pytest tests/parallel/server` takes four too.
"""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import ray

from raypt.parallel.traffic import parameter_server_bytes
from tests.parallel import cases as plain
from tests.parallel.ranks import run_ranks
from tests.parallel.server import cases

CASES = "tests.parallel.server.cases"
SERVERS = [1, 3]
WORKERS = [int(n) for n in os.environ.get("RAYPT_TEST_WORKERS", "2").split()]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    ray.init(address="local", num_cpus=2, include_dashboard=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="module", params=WORKERS)
def ranks(request: pytest.FixtureRequest, address: str, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    tmp = tmp_path_factory.mktemp("parity")
    return run_ranks(
        request.param,
        CASES,
        "every_setting",
        tmp,
        address=address,
        checkpoints=str(tmp / "saved"),
        server_counts=SERVERS,
    )


@pytest.mark.parametrize("servers", SERVERS)
def test_twenty_steps_equal_those_of_zero_0(servers: int, ranks: list[Any]) -> None:
    """The issue's bounds: fp32 sums in another order, 20 steps."""
    got, want = np.array(ranks[0][f"{servers}"]), np.array(ranks[0]["zero"])
    assert len(want) == cases.STEPS
    clipped = want[:, 1] > (plain.OPTIMIZER.clip_norm or 0)
    assert clipped.sum() > cases.STEPS / 2, "clipping is part of the claim"
    np.testing.assert_allclose(got[:, 0], want[:, 0], rtol=1e-6)
    np.testing.assert_allclose(got[:, 1], want[:, 1], rtol=1e-5)


@pytest.mark.parametrize("servers", SERVERS)
def test_final_weights_are_those_of_zero_0_on_every_worker(servers: int, ranks: list[Any]) -> None:
    want = np.array(ranks[0]["zero-weights"])
    for rank in ranks:
        # Relative to the weights' size: one near zero has no digits of its own.
        error = np.abs(np.array(rank[f"{servers}-weights"]) - want).max() / np.abs(want).max()
        assert error < 1e-5


@pytest.mark.parametrize("servers", SERVERS)
def test_a_resumed_run_is_bitwise_the_one_that_went_on(servers: int, ranks: list[Any]) -> None:
    assert ranks[0][f"{servers}-again"] == ranks[0][f"{servers}"][cases.SAVE_AT :]


@pytest.mark.parametrize("way", ["from", "to"])
@pytest.mark.parametrize("servers", SERVERS)
def test_a_run_changes_between_servers_and_collectives_at_a_checkpoint(
    servers: int, way: str, ranks: list[Any]
) -> None:
    got, want = np.array(ranks[0][f"{servers}-{way}-zero"]), np.array(ranks[0]["zero"])[cases.SAVE_AT :]
    np.testing.assert_allclose(got[:, 0], want[:, 0], rtol=1e-6)


@pytest.mark.parametrize("servers", SERVERS)
def test_all_workers_report_the_same_figures(servers: int, ranks: list[Any]) -> None:
    assert all(rank[f"{servers}"] == ranks[0][f"{servers}"] for rank in ranks)


@pytest.mark.parametrize(("run", "servers", "value"), [("1", 1, 4), ("3", 3, 4), ("bf16", 1, 2)])
def test_the_bytes_of_a_step_are_those_of_the_traffic_model(
    run: str, servers: int, value: int, ranks: list[Any]
) -> None:
    """Of weights and gradients; what else a call has is some hundred bytes."""
    found = [rank[f"{run}-travelled"] for rank in ranks]
    model = parameter_server_bytes(found[0]["parameters"], len(ranks), servers, weight=value, gradient=value)
    for of_rank in found:
        assert sum(of_rank["sent"]) == of_rank["said"] == model.worker_sends
        assert sum(of_rank["taken"]) == model.worker_receives
    for server in range(servers):
        # Slices differ by one element at most.
        assert sum(r["sent"][server] for r in found) == pytest.approx(model.server_receives, abs=value * len(ranks))
        assert sum(r["taken"][server] for r in found) == pytest.approx(model.server_sends, abs=value * len(ranks))


def test_lion_equals_that_of_zero_0(ranks: list[Any]) -> None:
    # A sign flips where sums in two orders lie on two sides of zero: that element moves by twice the rate.
    got, want = np.array(ranks[0]["lion"]), np.array(ranks[0]["lion-zero"])
    np.testing.assert_allclose(got[:, 0], want[:, 0], rtol=1e-5)


def test_bf16_stays_within_its_rounding_of_zero_0(ranks: list[Any]) -> None:
    """The bound and its reason are those of tests/parallel/zero/test_engine.py."""
    got, want = np.array(ranks[0]["bf16"]), np.array(ranks[0]["bf16-zero"])
    np.testing.assert_allclose(got[:, 0], want[:, 0], rtol=2**-8)


def test_nan_on_one_worker_is_skipped_by_all_and_leaves_the_weights(ranks: list[Any]) -> None:
    for rank in ranks:
        assert rank["skipped"]
        assert rank["unchanged"]


def test_a_discarded_step_leaves_the_weights_and_training_goes_on(ranks: list[Any]) -> None:
    for rank in ranks:
        assert rank["discarded"]
        assert rank["kept"]
        assert rank["refused"], "a norm above the bound of the spike rule"
        assert np.isfinite(rank["after"]).all()
