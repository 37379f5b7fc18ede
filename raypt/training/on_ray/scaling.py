"""How many workers a run with `train.workers: [min, max]` has: Ray Train's elastic policy, made to fit the batch."""

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import ray
from ray.data._internal.cluster_autoscaler.base_autoscaling_coordinator import ReservedResources
from ray.train.v2._internal.execution.scaling_policy import (
    AUTOSCALING_REQUESTS_GET_TIMEOUT_S,
    ElasticScalingPolicy,
    NoopDecision,
    ResizeDecision,
    ScalingDecision,
)
from ray.train.v2._internal.execution.worker_group import WorkerGroupPollStatus, WorkerGroupState
from ray.train.v2.api.config import FailureConfig, ScalingConfig
from ray.train.v2.torch.torch_trainer import TorchTrainer

from raypt.training.on_ray.failures import FailuresInARow
from raypt.training.on_ray.seats import Seated, places, seated

log = logging.getLogger("raypt")


class BatchScalingPolicy(ElasticScalingPolicy):
    """Ray Train's policy, with three differences.

    - Only numbers of workers that share the global batch evenly are chosen: the largest that fits, with those that have
      to be together on one node.
    - What fits is counted anew at each decision. Ray's own count is up to 20 s old, so that after a node's death it
      waits for resources that are gone.
    - A healthy group is resized just after a checkpoint is reported, not in between: a resize restarts the workers
      from the last checkpoint, and this way no step is done twice (and none lost where there is no checkpoint yet).
    """

    def __init__(self, scaling_config: ScalingConfig, sizes: Sequence[int], group: int = 1) -> None:
        """`group`: workers that have to be on one node."""
        super().__init__(scaling_config)
        self._sizes, self._group = tuple(sizes), group
        self._wants_resize = False

    def _count_possible_workers(self, reserved_resources: ReservedResources) -> int:
        """The largest valid number of workers that fits; 0 if there is none."""
        fits = super()._count_possible_workers(reserved_resources)
        each = self.scaling_config._resources_per_worker_not_none
        slots = {node: places(have, each) for node, have in reserved_resources.items()}
        return max((n for n in self._sizes if n <= fits and seated(slots, n, self._group) is not None), default=0)

    def _get_reserved_resources(self) -> ReservedResources | None:
        """By node, what is ours of the nodes that live now; None where the coordinator does not answer."""
        try:
            reference = self._autoscaling_coordinator.get_reserved_resources.remote(self._requester_id, recompute=True)
            reserved: ReservedResources = ray.get(reference, timeout=AUTOSCALING_REQUESTS_GET_TIMEOUT_S)
        except Exception as e:
            log.warning("what fits in the cluster is not known (%s): the number of workers stays", e)
            return None
        return reserved

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        self._wants_resize = False
        return super().make_decision_for_non_running_worker_group()

    def make_decision_for_running_worker_group(
        self, worker_group_state: WorkerGroupState, worker_group_status: WorkerGroupPollStatus
    ) -> ScalingDecision:
        decision = super().make_decision_for_running_worker_group(worker_group_state, worker_group_status)
        if isinstance(decision, ResizeDecision) and not self._wants_resize:
            self._wants_resize = True
            log.info(
                "%d workers fit instead of %d: the run goes on with them after its next checkpoint",
                decision.num_workers,
                worker_group_state.num_workers,
            )
        if not self._wants_resize or not _checkpointed(worker_group_status):
            return NoopDecision()
        self._wants_resize = False
        reserved = self._get_reserved_resources()
        workers = 0 if reserved is None else self._count_possible_workers(reserved)
        if workers == worker_group_state.num_workers or workers < self.scaling_config.min_workers:
            return NoopDecision()
        return self._get_resize_decision(workers)


def _checkpointed(status: WorkerGroupPollStatus) -> bool:
    """Whether this poll brought the report of a checkpoint."""
    reports = [worker.training_report for worker in status.worker_statuses.values()]
    return any(report is not None and report.checkpoint is not None for report in reports)


class BatchTrainer(TorchTrainer):
    """A TorchTrainer whose elastic runs have `sizes` workers only, and that counts failures in a row."""

    def __init__(
        self, *args: Any, sizes: Sequence[int], newest_step: Callable[[], int], group: int = 1, **kwargs: Any
    ) -> None:
        """`newest_step`: see FailuresInARow; `group`: workers that have to be on one node."""
        super().__init__(*args, **kwargs)
        self._sizes, self._newest_step, self._group = sizes, newest_step, group

    def _initialize_and_run_controller(self, **kwargs: Any) -> Any:
        config = self.scaling_config
        assert isinstance(config, ScalingConfig)
        if config.elasticity_enabled:
            kwargs["scaling_policy"] = BatchScalingPolicy(config, self._sizes, self._group)
        if self._group > 1:  # where workers start; what is asked of an autoscaler names no nodes
            given = {f.name: getattr(config, f.name) for f in fields(config) if f.init}
            context = copy.copy(kwargs["train_run_context"])
            object.__setattr__(context, "scaling_config", Seated(**given, group=self._group))
            kwargs["train_run_context"] = context
        failure_config = self.run_config.failure_config
        assert isinstance(failure_config, FailureConfig)
        kwargs["failure_policy"] = FailuresInARow(failure_config, self._newest_step)
        return super()._initialize_and_run_controller(**kwargs)
