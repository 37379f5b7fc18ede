"""The learning rate as a fraction of its peak, a pure function of the number of updates made."""

import math

from raypt.training.config import ScheduleConfig


def lr_scale(config: ScheduleConfig, update: int, total: int) -> float:
    """Factor on the peak rate for 0-based `update` of `total`. Warm-up reaches 1 at update `warmup_steps`; a decay
    reaches `min_ratio` at the last update.
    """
    warmup = min(20, total // 2) if config.warmup_steps is None else config.warmup_steps
    if update < warmup:
        return (update + 1) / (warmup + 1)
    if config.kind == "constant":
        return 1.0
    start = warmup
    if config.kind == "wsd":
        start = max(start, total - max(1, round(total * config.decay_fraction)))
    progress = min(max((update - start) / max(total - 1 - start, 1), 0.0), 1.0)
    remaining = 0.5 * (1 + math.cos(math.pi * progress)) if config.kind == "cosine" else 1 - progress
    return config.min_ratio + (1 - config.min_ratio) * remaining
