"""Settings that are each valid and together cannot mean what was meant: refused before any work."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raypt.training.config import TrainConfig


def contradictions(train: "TrainConfig") -> Iterator[str]:
    """One line each, with the keys and how to mend them."""
    yield from _workers(train)
    yield from _schedule(train)
    yield from _checkpoints(train)
    yield from _spikes(train)
    if train.backend is not None and (train.backend == "nccl") != train.use_gpu:
        yield (
            f"train.backend={train.backend} and train.use_gpu={str(train.use_gpu).lower()} go not together: nccl is of "
            "GPUs, gloo and mpi are of CPUs; leave train.backend unset"
        )
    yield from _whole_models(train)
    yield from _exact(train)
    if train.asynchronous:
        yield from _asynchronous(train)
    if train.varlen_attention and not (train.use_gpu and train.precision == "bf16"):
        yield "train.varlen_attention needs train.use_gpu=true and train.precision=bf16"
    if train.varlen_attention and train.deterministic:
        yield "train.deterministic: train.varlen_attention's backward pass sums in no fixed order; unset one of them"
    if train.optimizer.kind == "muon" and train.zero.offload_optimizer is not None:
        yield (
            "train.optimizer.kind=muon needs its matrices on the device: leave train.zero.offload_optimizer unset, or "
            "take adamw or lion"
        )
    if train.profile is not None and train.profile.last_step > train.steps:
        yield (
            f"train.profile: its last step, {train.profile.last_step}, is after train.steps={train.steps}; lower "
            "train.profile.first_step"
        )


def _workers(train: "TrainConfig") -> Iterator[str]:
    low, high = train.worker_range
    if not 1 <= low <= high:
        yield f"train.workers must be a positive number or a pair (min, max), not {train.workers}"
    elif low < high and train.checkpoint.every_steps is None:
        yield (
            f"train.workers={[low, high]}: a run changes its number of workers at a checkpoint, and "
            "train.checkpoint.every_steps=null has none before the end; set it, or give one number of workers"
        )


def _schedule(train: "TrainConfig") -> Iterator[str]:
    schedule, warmup = train.schedule, train.schedule.warmup_steps
    steps, key = (schedule.steps, "train.schedule.steps") if schedule.steps else (train.steps, "train.steps")
    if warmup is not None and warmup >= steps:
        yield (
            f"train.schedule.warmup_steps={warmup} is not below {key}={steps}: the learning rate would never reach its "
            "peak, nor decay; lower it, or leave it unset"
        )
    if schedule.decay != "linear" and schedule.kind != "wsd":
        yield (
            f"train.schedule.decay={schedule.decay} is of kind wsd, and train.schedule.kind={schedule.kind}; take wsd, "
            "or leave decay unset"
        )


def _checkpoints(train: "TrainConfig") -> Iterator[str]:
    config = train.checkpoint
    if config.keep_every is not None:
        if config.every_steps is None:
            yield "train.checkpoint.keep_every needs train.checkpoint.every_steps: there is one checkpoint, at the end"
        elif config.keep_every % config.every_steps:
            yield (
                f"train.checkpoint.keep_every={config.keep_every} is not a multiple of train.checkpoint.every_steps="
                f"{config.every_steps}: most of the steps it names have no checkpoint to keep"
            )
    if config.keep_best and (config.every_steps is None or train.evaluation.every_steps is None):
        yield (
            f"train.checkpoint.keep_best={config.keep_best} compares checkpoints by held-out loss: set "
            "train.checkpoint.every_steps and train.evaluation.every_steps"
        )


def _spikes(train: "TrainConfig") -> Iterator[str]:
    spike = train.spike
    if spike is None:
        return
    if spike.window >= train.steps:
        yield (
            f"train.spike.window={spike.window} is not below train.steps={train.steps}: the rule would never speak; "
            "lower it"
        )
    if spike.action == "rewind" and train.checkpoint.every_steps is None:
        yield (
            "train.spike.action=rewind goes back to the last checkpoint, and train.checkpoint.every_steps=null has "
            "none; set it, or take train.spike.action=skip"
        )


def _whole_models(train: "TrainConfig") -> Iterator[str]:
    """The strategies whose workers hold a whole model each."""
    if train.strategy not in ("parameter_server", "local_sgd"):
        return
    at = f"train.strategy={train.strategy}"
    if train.parallel.replica > 1:
        yield f"{at}: each worker holds a whole model; leave train.parallel.tensor, pipeline and context at 1"
    if train.optimizer.kind == "muon":
        yield (
            f"{at}: train.optimizer.kind=muon needs whole matrices, and weights are one flat array here; take adamw or "
            "lion"
        )
    if train.zero.offload_optimizer is not None or train.zero.offload_params is not None:
        yield f"{at} has nothing that DeepSpeed could offload; leave train.zero.offload_* unset"
    if train.strategy == "local_sgd" and train.local_sgd.outer_bits == 4 and train.use_gpu:
        yield f"{at}: train.local_sgd.outer_bits=4 is of CPU workers so far; take 32"
    every, saves = train.local_sgd.every_steps, train.checkpoint.every_steps
    if train.strategy == "local_sgd" and saves is not None and saves % every:
        yield (
            f"train.checkpoint.every_steps={saves} is not a multiple of train.local_sgd.every_steps={every}: a "
            "checkpoint holds one model, so each would make the workers meet early; change one of them"
        )


def _asynchronous(train: "TrainConfig") -> Iterator[str]:
    staleness = train.parameter_server.staleness
    at = f"train.parameter_server.staleness={'null' if staleness is None else staleness}"
    if not isinstance(train.workers, int):
        yield f"{at}: workers come and go on their own; give train.workers as one number, not {list(train.workers)}"
    if train.use_gpu:
        yield f"{at} is of CPU workers so far; leave train.use_gpu unset, or take staleness=0"
    if train.backend == "mpi":
        yield f"{at} needs Ray; leave train.backend unset, or take staleness=0"
    if train.spike is not None:
        yield f"{at}: an update is made before the loss of its step is known; leave train.spike unset"


def _exact(train: "TrainConfig") -> Iterator[str]:
    """What sums in an order of its own."""
    if train.reduction != "exact":
        return
    at = "train.reduction=exact"
    if train.strategy != "collective":
        yield f"{at}: train.strategy={train.strategy} adds up in an order of its own; take collective"
    if train.parallel.replica > 1:
        yield (
            f"{at}: a model that is cut over workers adds up terms that depend on the cut; leave "
            "train.parallel.tensor, pipeline and context at 1"
        )
    if train.optimizer.kind != "adamw":
        yield f"{at} is built for train.optimizer.kind=adamw, not {train.optimizer.kind}"
    if train.zero.communication_dtype != "fp32":
        yield f"{at} adds up in float32; leave train.zero.communication_dtype at fp32"
    if train.zero.offload_optimizer is not None or train.zero.offload_params is not None:
        yield f"{at} is not built for what DeepSpeed offloads; leave train.zero.offload_* unset"
    if train.use_gpu and not train.deterministic:
        yield f"{at}: kernels of GPUs sum in no fixed order unless train.deterministic=true; set it"
    if train.compile:
        yield f"{at} with train.compile=true is untried; leave it false"
    if "memory_efficient_linear" in train.zero.deepspeed.get("zero_optimization", {}):
        yield f"{at}: memory_efficient_linear makes other products at stage 3; leave it out of train.zero.deepspeed"
