"""Work of one process that belongs where the run's GPUs are, and not on the driver's machine."""

from collections.abc import Callable
from typing import Any, TypeVar

import ray

from raypt.training.config import TrainConfig

Result = TypeVar("Result")


def near_gpu(train: TrainConfig, work: Callable[[], Result]) -> Result:
    """`work()` on a GPU of the cluster where the run has GPUs, else in this process: the driver's machine has a CPU
    too. An exception of `work` is raised as itself.
    """
    if not train.use_gpu:
        return work()
    task: Any = ray.remote(lambda: work()).options(
        num_gpus=1,
        num_cpus=train.cpus_per_worker,
        label_selector=dict(train.labels) or None,
        name="near the GPUs",
    )
    try:
        result: Result = ray.get(task.remote())
    except ray.exceptions.RayTaskError as e:
        raise (e.cause if isinstance(e.cause, Exception) else e) from None
    return result
