"""Asynchronous parameter servers, as Ray actors: what is recorded of each update, and a worker that is killed."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from tests.parallel.ranks import run_ranks
from tests.parallel.server import async_cases as cases
from tests.training import tiny_run


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    tmp = tmp_path_factory.mktemp("asynchronous")
    ray.init(address="local", num_cpus=2, include_dashboard=False)
    try:
        address = ray.get_runtime_context().gcs_address
        yield run_ranks(1, cases.__name__, "everything", tmp, address=address, directory=str(tmp))[0]
    finally:
        ray.shutdown()


def indexes(updates: list[dict[str, Any]]) -> list[int]:
    return sorted(u["first_sample"] + i for u in updates for i in range(u["samples"]))


def test_one_worker_in_lock_step_is_the_synchronous_engine_bit_for_bit(found: dict[str, Any]) -> None:
    assert found["alone"] == found["sync"]
    assert found["alone-weights"] == found["sync-weights"]
    assert found["alone-evaluated"] == found["sync-evaluated"]


def test_no_update_of_200_steps_with_random_delays_is_staler_than_the_bound(found: dict[str, Any]) -> None:
    updates = found["updates"]
    assert len(updates) == cases.STEPS * cases.WORKERS
    assert max(u["stale_steps"] for u in updates) == cases.BOUND, "the bound is what held the fastest worker"
    # Between taking weights and the update, each other worker can go from `bound` steps behind this one to `bound` + 1
    # ahead of it, and as many updates of its own as it is ahead by may not have been in the weights.
    most = (cases.WORKERS - 1) * (2 * cases.BOUND + 1) + cases.BOUND
    assert 0 < max(u["stale_versions"] for u in updates) <= most


def test_every_update_has_its_number_once_and_they_are_recorded_in_that_order(found: dict[str, Any]) -> None:
    assert [u["number"] for u in found["updates"]] == list(range(len(found["updates"])))


def test_the_staleness_aware_rate_is_the_step_s_divided_by_the_versions(found: dict[str, Any]) -> None:
    assert all(u["lr_scale"] == cases.RATE / max(1, u["stale_versions"]) for u in found["updates"])


def test_a_checkpoint_is_of_all_samples_before_it_each_once_by_whichever_worker(found: dict[str, Any]) -> None:
    assert indexes(found["updates"]) == list(range(cases.STEPS * cases.WORKERS * cases.ROWS))
    assert set(Counter(u["worker"] for u in found["updates"])) == set(range(cases.WORKERS))


def test_samples_of_a_killed_worker_go_to_others_and_the_run_has_each_once(found: dict[str, Any]) -> None:
    run, all_of_it = found["run"], list(range(tiny_run.STEPS * tiny_run.BATCH))
    assert run["samples"] == indexes(run["updates"]) == all_of_it
    taken_over = next(u for u in run["updates"] if u["first_sample"] == run["held"])
    assert taken_over["worker"] != cases.KILLED


def test_a_run_of_asynchronous_workers_has_the_records_of_every_run(found: dict[str, Any]) -> None:
    run = found["run"]
    assert [row["step"] for row in run["metrics"]] == list(range(1, tiny_run.STEPS + 1))
    assert run["newest"] == [tiny_run.STEPS, tiny_run.STEPS * tiny_run.BATCH]
    assert all(row["workers"] == 2 and row["stale_steps"] <= cases.BOUND for row in run["metrics"])
    heldout = [row["heldout_loss"] for row in run["metrics"] if "heldout_loss" in row]
    assert len(heldout) == 3
    assert heldout[-1] < heldout[0] < run["metrics"][0]["loss"], "it learns"
