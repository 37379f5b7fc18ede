"""When workers that fail are started again."""

import logging
from collections.abc import Callable

import pytest
from ray.train.v2._internal.execution.failure_handling import FailureDecision
from ray.train.v2.api.config import FailureConfig
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError

from raypt.errors import UserError
from raypt.training.checkpoint.resume import GoneBack
from raypt.training.on_ray.failures import PATIENCE, FailuresInARow, told, user_error

RETRY, RAISE = FailureDecision.RETRY, FailureDecision.RAISE


def failure(cause: Exception) -> TrainingFailedError:
    return WorkerGroupError("a worker failed", {1: cause})


def policy(max_failures: int, newest_step: Callable[[], int]) -> FailuresInARow:
    return FailuresInARow(FailureConfig(max_failures=max_failures), newest_step)


def decisions(chosen: FailuresInARow, times: int, cause: Exception | None = None) -> list[FailureDecision]:
    return [chosen.make_decision(failure(cause or RuntimeError("lost"))) for _ in range(times)]


def test_failures_without_progress_end_the_run() -> None:
    assert decisions(policy(3, lambda: 0), 4) == [RETRY] * 3 + [RAISE]


def test_so_they_do_without_a_limit() -> None:
    """Else a run that cannot save would begin again for ever."""
    assert decisions(policy(-1, lambda: 100), PATIENCE + 1) == [RETRY] * PATIENCE + [RAISE]


def test_a_newer_checkpoint_resets_the_count() -> None:
    steps = iter(range(100))
    assert decisions(policy(3, lambda: next(steps)), 50) == [RETRY] * 50
    step = [0]
    chosen = policy(1, lambda: step[0])
    assert decisions(chosen, 1) == [RETRY]
    step[0] = 10
    assert decisions(chosen, 2) == [RETRY, RAISE]


def test_an_outage_of_the_storage_is_no_progress_and_no_end() -> None:
    def outage() -> int:
        raise OSError("as if")

    assert decisions(policy(2, outage), 3) == [RETRY, RETRY, RAISE]


def test_a_mistake_is_not_tried_again() -> None:
    chosen = policy(3, lambda: 0)
    assert decisions(chosen, 1, UserError("mend it")) == [RAISE]
    found = user_error(failure(UserError("mend it")))
    assert found is not None and str(found) == "mend it"
    in_the_factory = ControllerError(UserError("none that is whole"))
    assert chosen.make_decision(in_the_factory) == RAISE
    assert str(user_error(in_the_factory)) == "none that is whole"


def test_going_back_from_a_damaged_checkpoint_is_no_failure() -> None:
    chosen = policy(1, lambda: 0)
    assert decisions(chosen, 5, GoneBack("damaged")) == [RETRY] * 5
    assert decisions(chosen, 2) == [RETRY, RAISE]


def test_the_end_is_said_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="raypt"):
        decisions(policy(1, lambda: 40), 2, RuntimeError("Timed out waiting 600000ms for recv"))
    assert "failure 1 of 1 in a row, since the checkpoint of step 40" in caplog.text
    assert "failed 2 times in a row" in caplog.text
    assert "train.max_failures allows: Timed out waiting 600000ms for recv" in caplog.text


def test_the_reason_is_that_of_the_worker_that_ended_the_others() -> None:
    lost = RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:31612")
    assert told(WorkerGroupError("...", {0: lost, 1: ValueError("in the MLP")})) == "in the MLP (rank 1)"
