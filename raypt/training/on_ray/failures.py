"""Which failures of the workers are worth another start."""

import logging
from collections.abc import Callable
from dataclasses import replace

from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision
from ray.train.v2.api.config import FailureConfig
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError

from raypt import causes
from raypt.errors import UserError
from raypt.training.checkpoint.resume import GoneBack

log = logging.getLogger("raypt")

PATIENCE = 20
"""Failures in a row without a newer checkpoint that end a run without a limit of its own (train.max_failures=-1)."""


def user_error(error: TrainingFailedError) -> UserError | None:
    """The mistake of a person that made workers, or the dataset's factory, fail, if that is what it was."""
    return next((cause for cause in _causes(error) if isinstance(cause, UserError)), None)


def _causes(error: TrainingFailedError) -> list[BaseException]:
    failures: list[BaseException] = []
    if isinstance(error, WorkerGroupError):
        failures = list(error.worker_failures.values())
    elif isinstance(error, ControllerError):
        failures = [error.controller_failure]
    return [getattr(failure, "cause", None) or failure for failure in failures]


def told(error: WorkerGroupError) -> str:
    """A line on why the workers failed: of the error that ended the others, and whose it was."""
    if not error.worker_failures:
        return "unknown"
    rank = causes.first(error.worker_failures)
    failure = error.worker_failures[rank]
    cause = getattr(failure, "cause", None) or failure
    lines = str(cause).strip().splitlines()
    known = causes.origin(failure)
    whose = f"rank {rank} on node {known.node}" if known else f"rank {rank}"
    return f"{lines[-1] if lines else repr(cause)} ({whose})"


class FailuresInARow(DefaultFailurePolicy):
    """Ray Train's policy, with three differences.

    - What a person has to mend is not tried again: `max_failures` is for lost machines.
    - Progress resets the count. Three lost machines in a month are no reason to end a run; three in a row without a
      newer checkpoint are, whatever the limit.
    - Going back from a damaged checkpoint to the one before it is no failure: there are only so many.
    """

    def __init__(self, failure_config: FailureConfig, newest_step: Callable[[], int]) -> None:
        """`newest_step`: step of the newest checkpoint there is; 0 = none."""
        most = PATIENCE if failure_config.max_failures == -1 else failure_config.max_failures
        super().__init__(replace(failure_config, max_failures=most))
        self._newest_step = newest_step
        self._step = 0

    def make_decision(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        found = _causes(training_failed_error)
        if any(isinstance(cause, UserError) for cause in found):
            return FailureDecision.RAISE
        if any(isinstance(cause, GoneBack) for cause in found):
            return FailureDecision.RETRY
        step = self._reached()
        if step > self._step:
            self._step = step
            self._worker_group_failures = self._controller_failures = self._preemption_failures = 0
        decision = super().make_decision(training_failed_error)
        if isinstance(training_failed_error, WorkerGroupError):
            self._say(decision, told(training_failed_error))
        return decision

    def _reached(self) -> int:
        try:
            return self._newest_step()
        except Exception as e:
            log.warning("the newest checkpoint is not known (%s): failures are counted on", e)
            return self._step

    def _say(self, decision: FailureDecision, why: str) -> None:
        count, most = self._worker_group_failures, self.failure_config.max_failures
        since = f"since the checkpoint of step {self._step}" if self._step else "and no checkpoint yet"
        if decision == FailureDecision.RETRY:
            log.warning(
                "the workers failed (%s): failure %d of %d in a row, %s; starting again", why, count, most, since
            )
        else:
            log.error(
                "the workers failed %d times in a row, %s, more than train.max_failures allows: %s", count, since, why
            )
