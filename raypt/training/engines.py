"""The one place that chooses the engine of a run."""

import torch

from raypt.model import Llama, ModelConfig
from raypt.parallel.zero.engine import ZeroEngine
from raypt.training.batch_plan import BatchPlan
from raypt.training.config import TrainConfig
from raypt.training.optim.optimizer import build_optimizer


def build_engine(
    model: ModelConfig, train: TrainConfig, plan: BatchPlan, *, seed: int, device: torch.device
) -> ZeroEngine:
    """A freshly initialised engine; the process group must exist."""
    return ZeroEngine(
        lambda: Llama(model, train.activation_checkpointing, varlen=train.varlen_attention),
        seed=seed,
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
