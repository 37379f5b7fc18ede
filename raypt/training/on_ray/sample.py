"""The generated sample of a run, by a process that has what the training workers had."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import ray

from raypt.training.config import TrainConfig
from raypt.training.export import write_sample


def sample_on_worker(
    train: TrainConfig, run_uri: str, export_uri: str, prompts: Sequence[str], seed: int
) -> list[dict[str, str]]:
    """`write_sample`, on a GPU where the run had GPUs, else in this process: the driver's machine has a CPU too."""
    write = partial(write_sample, run_uri, export_uri, prompts, seed=seed)
    if not train.use_gpu:
        return write()
    task: Any = ray.remote(lambda: write(device="cuda")).options(num_gpus=1, num_cpus=train.cpus_per_worker)
    sample: list[dict[str, str]] = ray.get(task.remote())
    return sample
