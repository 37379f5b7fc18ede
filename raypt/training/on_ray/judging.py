"""Judging a model on workers of a Ray cluster, on the mesh that trains it."""

import math
from typing import Any

import ray
import ray.train
import torch.distributed as dist
from ray.train.torch import TorchConfig
from ray.train.v2.api.config import FailureConfig, RunConfig
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.train.v2.torch.torch_trainer import TorchTrainer
from torch._C._distributed_c10d import HashStore

from raypt import storage
from raypt.causes import of_rank
from raypt.errors import UserError
from raypt.training.judging import Judging, answer
from raypt.training.on_ray.environment import worker_environment
from raypt.training.on_ray.failures import user_error
from raypt.training.on_ray.run import knobs, place
from raypt.training.on_ray.seats import Seated, together
from raypt.training.worker import quiet_libraries

NAME = "judging"
"""Of it, on Ray's pages, below the run's."""


def judge_on_workers(spec: Judging, run_uri: str, failures: int = 0) -> None:
    """`spec.work`, with the model on `spec.workers` workers; Ray must be initialised. After so many failures of workers
    all begin anew; one more is the end: nothing is lost but the time. An error of the work is raised as itself if it is
    a UserError.
    """
    if spec.workers == 1:
        _judge_in_task(spec, run_uri, failures)
        return
    train = spec.train
    resources = {"CPU": train.cpus_per_worker} | ({"GPU": 1.0} if train.use_gpu else {})
    name, path, filesystem = place(storage.join(run_uri, NAME))
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"spec": spec},
        torch_config=TorchConfig(
            backend="nccl" if train.use_gpu else "gloo", timeout_s=math.ceil(train.first_step_timeout_s)
        ),
        scaling_config=Seated(
            group=together(train),
            num_workers=spec.workers,
            use_gpu=train.use_gpu,
            resources_per_worker=resources,
            label_selector=dict(train.labels) or None,
        ),
        run_config=RunConfig(
            name=name,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=failures),
            worker_runtime_env={"env_vars": worker_environment(train, train.threads, run_uri)},
        ),
    )
    try:
        with knobs(train, elastic=False):
            trainer.fit()
    except TrainingFailedError as e:
        if mistake := user_error(e):
            raise mistake from None
        raise


def _judge_in_task(spec: Judging, run_uri: str, failures: int) -> None:
    """One worker that holds the whole model needs no Ray Train, whose controller is one more process to start."""
    train = spec.train
    # A process that has been a member of a group is one for good: it takes no other task.
    task: Any = ray.remote(max_calls=1)(_alone).options(
        num_cpus=train.cpus_per_worker,
        num_gpus=1 if train.use_gpu else 0,
        label_selector=dict(train.labels) or None,
        runtime_env={"env_vars": worker_environment(train, train.threads, run_uri)},
        max_retries=failures,
        name="judging",
    )
    try:
        ray.get(task.remote(spec))
    except ray.exceptions.RayTaskError as e:
        raise (e.cause if isinstance(e.cause, UserError) else e) from None


def _alone(spec: Judging) -> None:
    quiet_libraries()
    backend = "nccl" if spec.train.use_gpu else "gloo"
    dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    answer(spec)


def _worker(config: dict[str, Any]) -> None:
    quiet_libraries()
    with of_rank(ray.train.get_context().get_world_rank()):
        answer(config["spec"])
