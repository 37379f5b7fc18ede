"""Optimizers over the parameters of a model."""

import torch

from raypt.model import Llama
from raypt.training.config import OptimizerConfig


def build_optimizer(model: Llama, config: OptimizerConfig) -> torch.optim.Optimizer:
    """AdamW at its peak rate, matrices decayed and vectors not."""
    matrices = [p for p in model.parameters() if _dimensions(p) >= 2]
    vectors = [p for p in model.parameters() if _dimensions(p) < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def _dimensions(parameter: torch.nn.Parameter) -> int:
    """Of the whole parameter: ZeRO 3 leaves an empty placeholder in its place."""
    return len(getattr(parameter, "ds_shape", parameter.shape))
