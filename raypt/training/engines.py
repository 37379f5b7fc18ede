"""The one place that chooses the engine of a run."""

import logging
from collections.abc import Callable
from functools import partial

import torch

from raypt import plugins
from raypt.errors import UserError
from raypt.model import Llama, ModelConfig
from raypt.model.attention import varlen_problem
from raypt.parallel.engine import TrainEngine
from raypt.parallel.flat.layout import Flat
from raypt.parallel.flat.replica import Replica
from raypt.parallel.local_sgd.engine import LocalSgdEngine
from raypt.parallel.mesh import Mesh
from raypt.parallel.weights.engine import WeightsEngine
from raypt.training.batch_plan import BatchPlan
from raypt.training.config import TrainConfig
from raypt.training.optim.optimizer import build_optimizer
from raypt.training.optim.schedule import lr_scale

log = logging.getLogger("raypt")

EngineFactory = Callable[[ModelConfig, TrainConfig, BatchPlan, Mesh, torch.device], TrainEngine]
"""Makes the engine of a rank, without values (see `TrainEngine.restore`); the process group exists by then."""


def build_engine(
    model: ModelConfig, train: TrainConfig, plan: BatchPlan, mesh: Mesh, *, device: torch.device
) -> TrainEngine:
    """An engine of `train.strategy`, without values (see `TrainEngine.restore`); the process group must exist."""
    return engine_factory(train.strategy)(model, train, plan, mesh, device)


def build_weights(
    model: ModelConfig, train: TrainConfig, sequence_length: int, mesh: Mesh, *, device: torch.device
) -> WeightsEngine:
    """Weights alone on a mesh of `train`, without values, whatever the strategy that trains. A rank of a pipeline has
    one part of the layers.
    """
    from raypt.parallel.pipeline.cut import layers_of_parts

    return WeightsEngine(
        lambda: Llama(model),
        mesh=mesh,
        layers=layers_of_parts(model, train.parallel, sequence_length),
        cut_weights=train.zero.stage == 3,
        dtype=_weights_dtype(train),
        device=device,
        in_host_memory=train.zero.offload_params is not None,
        loss_chunk_tokens=train.loss_chunk_tokens,
    )


def engine_factory(strategy: str) -> EngineFactory:
    """What makes the engines of `train.strategy`: raypt's own, or the one that `package.module:name` stands for.

    Raises:
        UserError: there is no such code, or it cannot be called.
    """
    if not plugins.is_plugin(strategy):
        return STRATEGIES[strategy]
    found: EngineFactory = plugins.load(strategy, KEY)
    if not callable(found):
        raise UserError(f"{KEY}={strategy} must be a function (model, train, plan, mesh, device) that makes an engine")
    return found


def _collective(
    model: ModelConfig, train: TrainConfig, plan: BatchPlan, mesh: Mesh, device: torch.device
) -> TrainEngine:
    from raypt.parallel.pipeline.cut import layers_of_parts
    from raypt.parallel.zero.engine import ZeroEngine  # DeepSpeed is loaded for the strategy that needs it

    varlen = use_varlen(model, train, device)
    layers = layers_of_parts(model, train.parallel, plan.sequence_length)
    if len(layers) > 1 and mesh.topology.rank == 0:
        log.info("layers of the pipeline's parts: %s", ", ".join(map(str, layers)))
    return ZeroEngine(
        lambda: Llama(model, train.activation_checkpointing, varlen=varlen),
        mesh=mesh,
        sequence_parallel=train.parallel.sequence_parallel,
        pipeline=train.parallel,
        layers=layers,
        compile_blocks=train.compile,
        exact=train.reduction == "exact",
        optimizer=lambda m: build_optimizer(m, train.optimizer),
        zero=train.zero,
        precision=train.precision,
        clip_norm=train.optimizer.clip_norm,
        micro_batch_size=plan.micro_batch_size,
        accumulation=plan.accumulation,
        device=device,
        z_loss=train.z_loss,
        loss_chunk_tokens=train.loss_chunk_tokens,
    )


def use_varlen(model: ModelConfig, train: TrainConfig, device: torch.device) -> bool:
    """Whether attention goes by documents instead of by a dense mask, as `train.varlen_attention` says."""
    if train.varlen_attention is not None:
        return train.varlen_attention
    if device.type != "cuda" or train.precision != "bf16" or train.deterministic:
        return False
    problem = varlen_problem(device, model.num_heads, model.num_kv_heads, model.head_width)
    if problem is not None:
        log.warning("attention takes a dense mask, as this device's variable-length kernel is of no use: %s", problem)
    return problem is None


def _parameter_server(
    model: ModelConfig, train: TrainConfig, plan: BatchPlan, mesh: Mesh, device: torch.device
) -> TrainEngine:
    if train.asynchronous:
        return asynchronous_servers(model, train, mesh, device)
    from raypt.parallel.server.engine import ServerEngine

    return ServerEngine(
        _replica(model, train, device),
        topology=mesh.topology,
        config=train.parameter_server,
        optimizer=partial(build_optimizer, config=train.optimizer),
        clip_norm=train.optimizer.clip_norm,
        timeout_s=train.collective_timeout_s,
    )


def asynchronous_servers(
    model: ModelConfig,
    train: TrainConfig,
    mesh: Mesh,
    device: torch.device,
    wrap: Callable[[Callable[[int], Replica]], Callable[[int], Replica]] = lambda replica: replica,
) -> TrainEngine:
    """The engine of asynchronous servers. `wrap`: what becomes of the function that makes a worker's replica, of its
    number, before it is sent there.
    """
    from raypt.parallel.server.async_engine import AsyncServerEngine
    from raypt.parallel.server.crew import CrewPlan

    saves, evaluates = train.checkpoint.every_steps, train.evaluation.every_steps

    def meets(step: int) -> bool:
        return step == train.steps or any(every and step % every == 0 for every in (saves, evaluates))

    with torch.device("meta"):
        flat = Flat.of(Llama(model))
    return AsyncServerEngine(
        flat,
        wrap(partial(_worker_replica, model, train, device)),
        topology=mesh.topology,
        config=train.parameter_server,
        optimizer=partial(build_optimizer, config=train.optimizer),
        clip_norm=train.optimizer.clip_norm,
        weights_dtype=_weights_dtype(train),
        crew=CrewPlan(train.worker_range[0], train.cpus_per_worker, train.threads, train.max_failures),
        rate=lambda step: lr_scale(train.schedule, step, train.steps),
        meets=meets,
        timeout_s=train.collective_timeout_s,
        first_timeout_s=train.first_step_timeout_s,
    )


def _worker_replica(model: ModelConfig, train: TrainConfig, device: torch.device, worker: int) -> Replica:
    """Of an actor, which is a process of its own."""
    return _replica(model, train, device)


def _local_sgd(
    model: ModelConfig, train: TrainConfig, plan: BatchPlan, mesh: Mesh, device: torch.device
) -> TrainEngine:
    return LocalSgdEngine(
        _replica(model, train, device),
        topology=mesh.topology,
        config=train.local_sgd,
        optimizer=partial(build_optimizer, config=train.optimizer),
        clip_norm=train.optimizer.clip_norm,
    )


def _replica(model: ModelConfig, train: TrainConfig, device: torch.device) -> Replica:
    varlen = use_varlen(model, train, device)
    return Replica(
        lambda: Llama(model, train.activation_checkpointing, varlen=varlen),
        dtype=_weights_dtype(train),
        device=device,
        z_loss=train.z_loss,
        loss_chunk_tokens=train.loss_chunk_tokens,
        compile_blocks=train.compile,
    )


def _weights_dtype(train: TrainConfig) -> torch.dtype:
    """What models compute with."""
    return torch.bfloat16 if train.precision == "bf16" else torch.float32


STRATEGIES: dict[str, EngineFactory] = {
    "collective": _collective,
    "parameter_server": _parameter_server,
    "local_sgd": _local_sgd,
}
"""By `train.strategy`."""

KEY = "train.strategy"
