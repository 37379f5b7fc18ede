"""Calibrate the planner's model of step time to this machine's CPU, in about 20 seconds.

    raypt bench plan --precision bf16 >> bench.jsonl
    raypt plan --config my.yaml train.use_gpu=false plan.bench=bench.jsonl

Trains small models of several widths, depths, lengths and vocabularies for some steps, measures a large matrix product,
memory and (with --workers) the link of an all-reduce, and prints the constants that explain the steps as a JSON line.
Calibrate with the workers a machine that are planned with: they share its memory.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np

from raypt import storage
from raypt.bench.steps import Measured, StepCase, measure_steps
from raypt.errors import UserError
from raypt.model.config import ModelConfig
from raypt.run.planner.catalogue import ACCELERATORS, Accelerator
from raypt.run.planner.shape import Layout, Shape
from raypt.run.planner.step_time import Constants, Work, seconds, stacked, work_of

CASES = (
    StepCase(64, 176, 2, 2, 2, 512, 128),
    StepCase(64, 176, 8, 4, 2, 512, 256),
    StepCase(128, 352, 4, 4, 2, 1024, 256, 2),
    StepCase(128, 352, 2, 4, 4, 8192, 256, 2),
    StepCase(256, 704, 2, 4, 2, 2048, 512),
    StepCase(256, 704, 2, 4, 4, 1024, 1024),
    StepCase(256, 704, 4, 8, 4, 1024, 128, 2, 2),
    StepCase(384, 1056, 2, 6, 3, 2048, 256, 2),
    StepCase(512, 1408, 2, 8, 4, 1024, 128),
    StepCase(256, 704, 2, 4, 2, 2048, 256, 2, 1, "full"),
)
"""Each of the model's terms weighs most in some of these."""
INVERSE = ("efficiency", "attention")
LINEAR = (*INVERSE, "traffic", "loss", "update", "block_s", "overhead_s")
LEAST = {"update": 28.0, "loss": 8.0}
"""Bytes below which these cannot be: AdamW reads a weight, its gradient and two moments and writes three of them, in
float32; a logit is written and read once, in 16 bits at least twice."""
WIDTHS, TOKENS = (0.0, 16.0, 32.0, 64.0, 128.0, 256.0), (0.0, 16.0, 64.0, 128.0)
"""Half widths and half tokens that are tried."""


def terms(case: StepCase, workers: int, precision: str, stage: int = 1) -> tuple[Shape, Layout]:
    """A measured case as the planner sees it."""
    layout = Layout(
        data=workers,
        zero=stage,
        micro_batch=case.micro_batch,
        accumulation=case.accumulation,
        length=case.length,
        checkpointing=case.checkpointing,  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
        attention="blocked",
        fused_norms=False,
    )
    return Shape.of(ModelConfig.model_validate(case.model)), layout


def works(cases: Sequence[StepCase], workers: int, precision: str) -> Work:
    """The cases as arrays."""
    found = []
    for case in cases:
        shape, layout = terms(case, workers, precision)
        found.append(work_of(shape, layout, per_node=workers, memory_bytes=1e15, state_bytes=0.0, gpu=False))
    return stacked(found)


def fitted(cases: Sequence[StepCase], measured: Measured, workers: int, precision: str) -> Constants:
    """The constants that explain measured steps. Where their CPU seconds were fitted (`computing`), what several ranks
    took beside that and what they sent, in the case where it is least, is waiting of every step."""
    k = computing(cases, measured, workers, precision)
    if not measured.alone or workers == 1:
        return k
    found = seconds(works(cases, workers, precision), k, measured.flops, measured.bandwidth).step
    waited = float(np.min(np.array(measured.wall_s) - found))
    return replace(k, overhead_s=k.overhead_s + max(0.0, waited))


def computing(cases: Sequence[StepCase], measured: Measured, workers: int, precision: str) -> Constants:
    """The constants that explain what a rank does by itself: least squares of the relative error, none below what it
    can be, at the best of some half widths and half tokens. CPU seconds have no waiting in them, neither for other
    ranks nor for other processes of the machine; of seconds that went by, what ranks send takes its share."""
    from scipy.optimize import nnls

    work, took = works(cases, workers, precision), np.array(measured.compute_s)
    none = Constants(
        efficiency=np.inf, half_width=0.0, half_tokens=0.0, attention=np.inf, recompute=1.0, overlap=1.0, pressure=0.0,
        overhead_s=0.0, compiled=ACCELERATORS["cpu"].constants.compiled,
        **({"intra": measured.link, "tensor": measured.link} if measured.link else {}),
    )  # fmt: skip

    def step(k: Constants) -> Any:
        return seconds(work, k, measured.flops, measured.bandwidth).step

    sent = step(none)
    known = step(replace(none, **LEAST)) - (sent if measured.alone else 0.0)
    best = (np.inf, none)
    for width in WIDTHS:
        for tokens in TOKENS:
            base = replace(none, half_width=width, half_tokens=tokens)
            columns = np.stack([(step(replace(base, **{name: 1.0})) - sent) / took for name in LINEAR], 1)
            scale = columns.max(axis=0)
            weights, error = nnls(columns / scale, 1 - known / took)
            values = {
                name: float(1 / max(w, 1e-12)) if name in INVERSE else float(w) + LEAST.get(name, 0.0)
                for name, w in zip(LINEAR, weights / scale, strict=True)
            }
            if error < best[0]:
                best = error, replace(base, **values)
    return best[1]


def main(argv: list[str]) -> int:
    """`raypt bench plan`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", help="ignored: the tokens are random")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of a worker (train.threads_per_worker)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--seconds", type=float, default=12.0, help="of measuring; starting takes as long again")
    args = parser.parse_args(argv)
    started = time.perf_counter()
    found = measure_steps(
        CASES, workers=args.workers, threads=args.threads, precision=args.precision, budget_s=args.seconds
    )
    constants = fitted(CASES, found, args.workers, args.precision)
    line = {"workload": "plan", "workers": args.workers, "threads": args.threads, "precision": args.precision}
    line |= {
        "had": round(found.had, 3),
        "rounds": len(found.wall[0]),
        "flops": found.flops,
        "bandwidth": found.bandwidth,
        "constants": asdict(constants),
    }
    print(json.dumps(line | {"seconds": round(time.perf_counter() - started, 1)}), flush=True)
    return 0


def calibrated(device: Accelerator, uri: str | None, precision: str) -> Accelerator:
    """A CPU with the constants of the last line of `raypt bench plan` in a file, of this precision; as it is where
    there is none."""
    if uri is None or device.gpu:
        return device
    try:
        text = storage.read_bytes(uri).decode()
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"plan.bench: cannot read {uri}: {e}") from None
    found = None
    for number, line in enumerate(text.splitlines(), 1):
        if '"plan"' not in line:
            continue
        try:
            value = json.loads(line)
            if value.get("workload") == "plan" and value["precision"] == precision:
                constants = Constants(**{f.name: float(value["constants"][f.name]) for f in fields(Constants)})
                found = value, constants
                flops, bandwidth = float(value["flops"]), float(value["bandwidth"])
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise UserError(
                f"plan.bench: {uri}, line {number} is no calibration of this version ({e!r}): run `raypt bench plan` "
                "again"
            ) from None
    if found is None:
        return device
    value, constants = found
    how = f"calibrated with {value['workers']} workers of {value['threads']} threads, {precision}"
    return replace(device, flops=flops, bandwidth=bandwidth, constants=constants, source=how, measured=how)
