"""Evaluate a model: perplexity and bits per byte on files, and tasks of lm-evaluation-harness.

By default the model is the run's own export (`run.dir=...`); `evaluate.model` names any Hugging Face LLaMA directory.
With `train.use_gpu` and no GPU here, a GPU of the Ray cluster does it. One process holds the model then, and refuses
one that does not fit; on a CPU it is this one, which need not wait for a Ray to start. Where no worker holds a whole
model in training, for `train.parallel` or `train.zero.stage=3` cut it, they do it on that mesh, each reading only its
cut: of the export, of the run's newest checkpoint where there is none, or of the checkpoint or run that
`evaluate.model` names. They hold the weights alone. Results are printed and written to `evaluation.json` in the run
directory (or `evaluate.out`).
"""

import json
from functools import partial
from typing import Any

import ray
import torch

from raypt import storage
from raypt.model.hf import CONFIG
from raypt.ray_session import check_capacity, session
from raypt.run.config import RunConfig
from raypt.training.config import TrainConfig
from raypt.training.evaluate import check_work, evaluate_model, judge, results_uri, sources_of
from raypt.training.judging import judging
from raypt.training.on_ray.judging import judge_on_workers
from raypt.training.on_ray.near_gpu import near_gpu
from raypt.training.on_ray.seats import check_seats
from raypt.training.sizes import check_mesh, check_workers
from raypt.training.starting_point import find_model


def main(config: RunConfig) -> None:
    if is_cut(config.train):
        found = on_mesh(config)
    else:
        work = partial(evaluate_model, config.evaluate, config.corpus, config.run_uri)
        if config.train.use_gpu and not torch.cuda.is_available():
            with session(config.ray):
                check_capacity({"evaluation": config.train.cpus_per_worker}, 1, autoscaling=config.ray.autoscaling)
                found = near_gpu(config.train, work)
        else:
            found = work()
    print(json.dumps(found, indent=1, ensure_ascii=False))


def is_cut(train: TrainConfig) -> bool:
    """Whether the least workers of a run hold a model between them."""
    return train.parallel.replica > 1 or (train.zero.stage == 3 and train.worker_range[0] > 1)


def on_mesh(config: RunConfig) -> dict[str, Any]:
    """What the workers find on the mesh of `config.train`."""
    evaluate, run_uri = config.evaluate, config.run_uri
    check_work(evaluate)
    export = storage.join(run_uri, "export")
    default = export if storage.exists(storage.join(export, CONFIG)) else run_uri
    found = find_model(evaluate.model or default, "evaluate.model")
    manifest = sources_of(evaluate, config.corpus, run_uri)
    out = results_uri(evaluate, run_uri)
    length = config.tokens.packing.sequence_length
    check_mesh(found.model, config.train, length)
    workers = check_workers(config.train, length)[0]
    spec = judging(
        found,
        config.train,
        length,
        partial(
            judge,
            config=evaluate.model_copy(update={"out": out}),
            corpus=config.corpus,
            manifest=manifest,
            run_uri=run_uri,
            model_uri=found.uri,
        ),
        workers=workers,
        precision=evaluate.precision,
        max_length=evaluate.max_length,
        batch_size=evaluate.batch_size,
    )
    with session(config.ray):
        cpus = {f"{workers} evaluating workers": workers * config.train.cpus_per_worker}
        gpus = workers if config.train.use_gpu else 0
        check_capacity(cpus, gpus, autoscaling=config.ray.autoscaling)
        check_seats(config.train, [workers], found.model, ray.nodes(), autoscaling=config.ray.autoscaling)
        judge_on_workers(spec, run_uri)
    results: dict[str, Any] = storage.read_json(out)
    return results
