"""`python -m tests.run.planner.calibrated [workers] [precision]`: steps that training really takes here, predicted from
a calibration measured in the same rounds, from other shapes."""

import os
import sys

from raypt.bench.steps import StepCase, measure_steps
from raypt.run.planner.calibrate import CASES, fitted, works
from raypt.run.planner.step_time import seconds

SHAPES = [
    StepCase(192, 512, 4, 4, 2, 1024, 256, 2),
    StepCase(320, 880, 3, 5, 5, 4096, 256),
    StepCase(128, 352, 8, 4, 2, 2048, 512),
    StepCase(448, 1232, 2, 7, 7, 1024, 256),
    StepCase(192, 512, 3, 6, 3, 512, 768),
    StepCase(320, 880, 4, 5, 5, 2048, 256, 2, 1, "full"),
]
"""None of these is calibrated with: other widths, depths, lengths, vocabularies."""


def errors(shapes: list[StepCase], workers: int = 1, precision: str = "fp32", budget_s: float = 30.0) -> list[float]:
    """Predicted over measured, less one."""
    cases = [*CASES, *shapes]
    threads = max(1, (os.cpu_count() or 1) // workers)
    found = measure_steps(cases, workers=workers, threads=threads, precision=precision, budget_s=budget_s)
    k = fitted(list(CASES), found, workers, precision)
    predicted = seconds(works(cases, workers, precision), k, found.flops, found.bandwidth).step
    for i, (case, guess, real) in enumerate(zip(cases, predicted, found.step_s, strict=True)):
        print(f"{'fit' if i < len(CASES) else 'new'} {guess:.3f} of {real:.3f} s {guess / real - 1:+.1%} {case}")
    print(k)
    return [float(g / r - 1) for g, r in zip(predicted, found.step_s, strict=True)][len(CASES) :]


if __name__ == "__main__":
    given = sys.argv[1:]
    off = max(map(abs, errors(SHAPES, int(given[0]) if given else 1, given[1] if given[1:] else "fp32")))
    print(f"worst {off:.1%}")
    sys.exit(off > 0.15)
