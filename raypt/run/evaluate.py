"""Evaluate a model: perplexity and bits per byte on files, and tasks of lm-evaluation-harness.

By default the model is the run's own export (`run.dir=...`); `evaluate.model` names any Hugging Face LLaMA directory.
With `train.use_gpu` and no GPU here, a GPU of the Ray cluster does it. Results are printed and written to
`evaluation.json` in the run directory (or `evaluate.out`).
"""

import json
from functools import partial

import torch

from raypt.ray_session import check_capacity, session
from raypt.run.config import RunConfig
from raypt.training.evaluate import evaluate_model
from raypt.training.on_ray.near_gpu import near_gpu


def main(config: RunConfig) -> None:
    work = partial(evaluate_model, config.evaluate, config.corpus, config.run_uri)
    if config.train.use_gpu and not torch.cuda.is_available():
        with session(config.ray):
            check_capacity({"evaluation": config.train.cpus_per_worker}, 1, autoscaling=config.ray.autoscaling)
            found = near_gpu(config.train, work)
    else:
        found = work()
    print(json.dumps(found, indent=1, ensure_ascii=False))
