"""Staying up: what a checkpoint costs, how often to write one, and what share of the time is spent on new steps.

The interval that loses least is Young's (1974), sqrt(2 C M), in Daly's higher-order form (2006); M is the mean time
between faults of all devices together, C what a checkpoint takes from training.
"""

import math
from dataclasses import dataclass
from typing import Any

DAY = 86400.0
STATE_BYTES = 12
"""Of a parameter in a checkpoint: float32 weight and two moments (AdamW)."""
HOST_BANDWIDTH = 2e10
"""Bytes a second and device to host memory (PCIe 4.0 x16 reaches some 25e9): what a background save interrupts for."""


def young(cost_s: float, between_faults_s: float) -> float:
    """Seconds between checkpoints, to first order."""
    return math.sqrt(2 * cost_s * between_faults_s)


def daly(cost_s: float, between_faults_s: float) -> float:
    """The same to higher order (Daly 2006, eq. 37); the mean time between faults itself where checkpoints cost more
    than twice that."""
    if cost_s >= 2 * between_faults_s:
        return between_faults_s
    x = cost_s / (2 * between_faults_s)
    return math.sqrt(2 * cost_s * between_faults_s) * (1 + math.sqrt(x) / 3 + x / 9) - cost_s


def goodput(interval_s: float, cost_s: float, between_faults_s: float, restart_s: float) -> float:
    """Share of the wall time that is new steps, faults being a Poisson process (Daly 2006, eq. 20)."""
    if math.isinf(between_faults_s):
        return interval_s / (interval_s + cost_s)
    m = between_faults_s
    exponent = (interval_s + cost_s) / m
    if exponent > 700:
        return 0.0
    return interval_s / (m * math.exp(restart_s / m) * math.expm1(exponent))


@dataclass(frozen=True)
class StayingUp:
    """The answer for one run."""

    checkpoint_bytes: float
    interrupts_s: float
    written_s: float
    """Until a checkpoint is whole in storage."""
    between_faults_s: float
    interval_s: float
    interval_steps: int
    goodput: float

    def to_json(self) -> dict[str, Any]:
        return {
            "checkpoint_bytes": self.checkpoint_bytes,
            "interrupts_s": self.interrupts_s,
            "written_s": self.written_s,
            "mean_time_between_faults_s": None if math.isinf(self.between_faults_s) else self.between_faults_s,
            "interval_s": self.interval_s,
            "interval_steps": self.interval_steps,
            "goodput": self.goodput,
        }


def staying_up(
    parameters: int,
    devices: int,
    nodes: int,
    step_s: float,
    *,
    faults_per_device_day: float,
    restart_s: float,
    node_bandwidth: float,
    background: bool,
) -> StayingUp:
    size = float(STATE_BYTES * parameters)
    written = size / (nodes * node_bandwidth)
    interrupts = size / devices / HOST_BANDWIDTH if background else written
    rate = faults_per_device_day * devices / DAY
    between = math.inf if rate == 0 else 1 / rate
    # A checkpoint counts once it is written: the next one cannot begin before.
    best = DAY if math.isinf(between) else daly(interrupts, between)
    interval = max(best, written, step_s)
    steps = max(1, round(interval / step_s))
    # Of a fault one also loses what was trained while the last checkpoint was still being written.
    behind = written if background else 0.0
    good = goodput(steps * step_s, interrupts, between, restart_s + behind)
    return StayingUp(size, interrupts, written, between, steps * step_s, steps, good)
