"""Local SGD on two workers: what it equals, what it moves, and that its checkpoints are everyone's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raypt.parallel.traffic import local_sgd_bytes
from tests.parallel.local_sgd import cases
from tests.parallel.ranks import run_ranks


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    tmp: Path = tmp_path_factory.mktemp("local")
    return run_ranks(2, "tests.parallel.local_sgd.cases", "everything", tmp, checkpoints=str(tmp / "saved"))


def test_one_inner_step_of_plain_sgd_is_data_parallelism_whatever_each_worker_has_of_tokens(ranks: list[Any]) -> None:
    want = np.array(cases.data_parallel_sgd(8))
    for rank in ranks:
        # fp32 sums in another order, eight steps; relative to the weights' size.
        assert np.abs(np.array(rank["sgd"]) - want).max() / np.abs(want).max() < 1e-5


def test_fifty_inner_steps_move_a_fortieth_of_the_bytes_of_data_parallelism(ranks: list[Any]) -> None:
    for rank in ranks:
        assert rank["local-bytes"] <= rank["zero-bytes"] / 40


def test_the_bytes_of_a_step_are_those_of_the_traffic_model(ranks: list[Any]) -> None:
    for rank in ranks:
        # Of two ranks each sends half of a buffer twice, so the buffers that are counted are what is sent. Beside the
        # weights there are sums of losses, tokens and norms: some 50 bytes a step.
        model = cases.EVERY * local_sgd_bytes(rank["parameters"], 2, cases.EVERY, value=4)
        assert model <= rank["local-bytes"] <= model + 100 * cases.EVERY


def test_four_bits_send_an_eighth_and_leave_all_workers_near_the_same_weights(ranks: list[Any]) -> None:
    for rank in ranks:
        model = cases.EVERY * local_sgd_bytes(rank["parameters"], 2, cases.EVERY, value=0.5)
        # Scales are 3 %, and the last block of each rank is filled up.
        assert model < rank["four-bytes"] < 1.05 * model
    assert ranks[0]["four-met"] == ranks[1]["four-met"]
    met, exact = np.array(ranks[0]["four-met"]), np.array(ranks[0]["met"])
    # Each of two roundings is off by a third at most and a sixth on average: the step from the first weights, of which
    # the exact one is the better part, is not lost in it.
    first = np.array(ranks[0]["first"])
    assert np.linalg.norm(met - exact) < 0.35 * np.linalg.norm(exact - first)
    assert np.linalg.norm(met - exact) > 0


def test_the_step_that_meets_says_what_it_sent(ranks: list[Any]) -> None:
    # A ring of two ranks: each sends its buffer once.
    assert all(rank["said-bytes"] == 4 * rank["parameters"] for rank in ranks)


def test_after_an_outer_step_and_after_a_save_all_workers_hold_the_same_weights(ranks: list[Any]) -> None:
    assert ranks[0]["met"] == ranks[1]["met"]
    assert ranks[0]["saved"] == ranks[1]["saved"]


def test_it_learns_nearly_what_data_parallelism_does(ranks: list[Any]) -> None:
    # Each worker's loss is of its own weights on its own samples, so it may even be below; a worker that did not train,
    # or an outer step that undid its training, would have gained nothing.
    local, zero = (np.array(ranks[0][name])[:, 0] for name in ("local", "zero"))
    assert local[0] - local[-1] > 0.9 * (zero[0] - zero[-1]) > 1


def test_an_outer_step_that_is_late_leaves_the_stated_share_of_a_workers_own_weights(ranks: list[Any]) -> None:
    # Until it comes a worker is where it would be alone; then 0.25 of that beside 0.75 of where all begin again.
    for rank in ranks:
        own, start, mixed = (np.array(rank[name], np.float32) for name in ("own", "unmixed", "mixed"))
        assert np.abs(mixed - (0.25 * own + 0.75 * start)).max() < 1e-6  # one rounding of fp32
        assert np.abs(own - start).max() > 1e-4
    assert ranks[0]["unmixed"] == ranks[1]["unmixed"]


def test_with_a_delay_workers_are_apart_and_meet_at_a_checkpoint(ranks: list[Any]) -> None:
    assert ranks[0]["delayed-apart"] != ranks[1]["delayed-apart"]
    assert ranks[0]["delayed-met"] == ranks[1]["delayed-met"]
    assert ranks[0]["late"] == ranks[0]["at-once"]  # nobody had trained on meanwhile


def test_with_a_delay_it_learns_nearly_as_much(ranks: list[Any]) -> None:
    late, local = (np.array(ranks[0][name])[:, 0] for name in ("delayed", "local"))
    assert late[0] - late[-1] > 0.9 * (local[0] - local[-1])


def test_a_resumed_run_is_bitwise_the_one_that_went_on(ranks: list[Any]) -> None:
    assert ranks[0]["again"] == ranks[0]["on"]


def test_zero_goes_on_from_its_checkpoint_without_the_outer_momentum(ranks: list[Any]) -> None:
    assert ranks[0]["moved"] == ranks[0]["saved"]
    assert ranks[0]["moved-states"] == ["exp_avg", "exp_avg_sq", "master"]
