"""The one place that chooses the engine of a run."""

from collections.abc import Callable

import torch

from raypt.model import Llama, ModelConfig
from raypt.parallel.engine import TrainEngine
from raypt.parallel.mesh import Mesh
from raypt.training.batch_plan import BatchPlan
from raypt.training.config import TrainConfig
from raypt.training.optim.optimizer import build_optimizer


def build_engine(
    model: ModelConfig, train: TrainConfig, plan: BatchPlan, mesh: Mesh, *, device: torch.device
) -> TrainEngine:
    """An engine of `train.strategy`, without values (see `TrainEngine.restore`); the process group must exist."""
    return STRATEGIES[train.strategy](model, train, plan, mesh, device)


def _collective(
    model: ModelConfig, train: TrainConfig, plan: BatchPlan, mesh: Mesh, device: torch.device
) -> TrainEngine:
    from raypt.parallel.zero.engine import ZeroEngine  # DeepSpeed is loaded for the strategy that needs it

    return ZeroEngine(
        lambda: Llama(model, train.activation_checkpointing, varlen=train.varlen_attention),
        mesh=mesh,
        sequence_parallel=train.parallel.sequence_parallel,
        compile_blocks=train.compile,
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


STRATEGIES: dict[str, Callable[[ModelConfig, TrainConfig, BatchPlan, Mesh, torch.device], TrainEngine]] = {
    "collective": _collective,
}
"""By `train.strategy`."""
