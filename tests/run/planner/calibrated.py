"""`python -m tests.run.planner.calibrated [workers] [precision]`: steps that training really takes here, predicted from
a calibration measured in the same rounds, from other shapes.

Ranks of one thread are judged by their CPU seconds, which other processes of the machine leave alone, and by the
seconds that went by as well where the machine was theirs.
"""

import sys
from dataclasses import replace

from raypt.bench.steps import Measured, StepCase, measure_steps
from raypt.run.planner.calibrate import CASES, computing, fitted, works
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
QUIET = 0.9
"""Of the seconds that went by, those on a CPU, from which on the machine counts as theirs."""


def errors(found: Measured, workers: int, precision: str) -> dict[str, list[float]]:
    """Predicted over measured, less one, of the new shapes: of `cpu` and of `wall` seconds."""
    old, work = len(CASES), works([*CASES, *SHAPES], workers, precision)
    k = fitted(CASES, found.of(old), workers, precision)
    whole = seconds(work, k, found.flops, found.bandwidth).step
    without = replace(computing(CASES, found.of(old), workers, precision), intra=float("inf"))
    alone = seconds(work, without, found.flops, found.bandwidth).step
    for i, case in enumerate((*CASES, *SHAPES)):
        cpu, wall = found.compute_s[i], found.wall_s[i]
        print(
            f"{'fit' if i < old else 'new'} CPU {alone[i]:.4f} of {cpu:.4f} s {alone[i] / cpu - 1:+.1%}, wall "
            f"{whole[i]:.4f} of {wall:.4f} s {whole[i] / wall - 1:+.1%} {case}"
        )
    print(k)
    return {
        "cpu": [float(a / m - 1) for a, m in zip(alone, found.compute_s, strict=True)][old:],
        "wall": [float(w / m - 1) for w, m in zip(whole, found.wall_s, strict=True)][old:],
    }


def main(workers: int = 1, precision: str = "fp32", budget_s: float = 30.0) -> int:
    found = measure_steps([*CASES, *SHAPES], workers=workers, threads=1, precision=precision, budget_s=budget_s)
    off = {kind: max(map(abs, values)) for kind, values in errors(found, workers, precision).items()}
    quiet = found.had >= QUIET or (workers > 1 and found.had >= QUIET - 0.2)
    print(
        f"worst of CPU seconds {off['cpu']:.1%}, of wall {off['wall']:.1%}, in {len(found.wall[0])} rounds; the usual "
        f"step was on a CPU for {found.had:.0%} of it"
        + ("" if quiet else ": the machine was busy, wall does not count")
    )
    return int(max(off["cpu"], off["wall"] if quiet else 0.0) > 0.15)


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(main(*[int(a) for a in given[:1]], *given[1:2]))
