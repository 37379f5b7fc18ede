"""Which failures of the workers are worth another start."""

from ray.train.v2._internal.execution.failure_handling import DefaultFailurePolicy, FailureDecision
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from raypt.errors import UserError


def user_error(error: TrainingFailedError) -> UserError | None:
    """The mistake of a person that made workers fail, if that is what it was."""
    if isinstance(error, WorkerGroupError):
        for failure in error.worker_failures.values():
            cause = getattr(failure, "cause", failure)
            if isinstance(cause, UserError):
                return cause
    return None


class MistakesEndTheRun(DefaultFailurePolicy):
    """Ray Train's policy, but what a person has to mend is not tried again: `max_failures` is for lost machines."""

    def make_decision(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        if user_error(training_failed_error) is not None:
            return FailureDecision.RAISE
        return super().make_decision(training_failed_error)
