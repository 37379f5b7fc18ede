"""How calmly a variant trained: spikes of the gradient's norm, and steps that were skipped."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raypt import storage
from raypt.run.study.laws.robust import Array
from raypt.run.study.results import Trial
from raypt.run.study.train import METRICS

SPIKE = 2.0
"""A norm of so many times the running median. (Medians, since a spike must not hide the next one.)"""
WINDOW = 16


@dataclass(frozen=True)
class Stability:
    """Of all trainings of a variant."""

    steps: int
    spikes: int
    """Steps whose gradient norm, before clipping, was above SPIKE times the median of the WINDOW before it."""
    highest: float
    """The largest ratio to that median."""
    skipped: int
    """Steps that were skipped: not finite, or a spike of the loss (`train.spike`)."""

    def __str__(self) -> str:
        return (
            f"{self.spikes} spikes in {self.steps:,} steps (highest {self.highest:.2f} times the median), "
            f"{self.skipped} steps skipped"
        )


def ratios(norm_T: Array) -> Array:
    """Each norm over the median of the WINDOW before it; the first WINDOW steps have none. Norms that are not finite
    count as spikes, and in no median.
    """
    if len(norm_T) <= WINDOW:
        return np.empty(0)
    finite_T = np.where(np.isfinite(norm_T), norm_T, np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(finite_T, WINDOW)[:-1]
    before = np.array([np.nanmedian(w) if np.isfinite(w).any() else np.inf for w in windows])
    return np.where(np.isfinite(norm_T[WINDOW:]), norm_T[WINDOW:] / before, np.inf)


def stability(trials: Sequence[Trial]) -> Stability:
    """Of a variant's trainings, from their files."""
    steps = spikes = skipped = 0
    highest = 0.0
    for trial in trials:
        table = storage.read_parquet(storage.join(trial.training.uri, METRICS), columns=["grad_norm", "skipped_steps"])
        norm_T = np.asarray(table["grad_norm"].to_numpy(zero_copy_only=False), float)
        ratio = ratios(norm_T)
        steps += len(norm_T)
        spikes += int((ratio > SPIKE).sum())
        highest = max(highest, float(ratio.max(initial=0.0)))
        skipped += max((s for s in table["skipped_steps"].to_pylist() if s is not None), default=0)
    return Stability(steps, spikes, highest, skipped)
