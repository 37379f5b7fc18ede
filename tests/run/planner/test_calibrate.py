"""The CPU's constants from measured steps, and the plan that takes them."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from raypt.bench.steps import Measured
from raypt.errors import UserError
from raypt.run.planner.calibrate import CASES, calibrated, fitted, works
from raypt.run.planner.catalogue import ACCELERATORS
from raypt.run.planner.data_side import Speeds
from raypt.run.planner.step_time import Constants, seconds
from tests.run.planner.calibrated import SHAPES

TRUE = Constants(
    efficiency=0.8, half_width=32.0, half_tokens=16.0, attention=0.2, recompute=1.0, overlap=1.0, pressure=0.0,
    intra=1e9, traffic=500.0, loss=20.0, update=60.0, block_s=1e-3, overhead_s=5e-3,
)  # fmt: skip


@pytest.mark.fast
@pytest.mark.parametrize("workers", [1, 2])
def test_steps_of_other_shapes_follow_from_steps_that_a_known_machine_took(workers: int) -> None:
    """Steps of the model itself, without noise: the fit is linear at the right half width, so only rounding is left."""
    took = seconds(works(CASES, workers, "fp32"), TRUE, 5e10, 1e10).step
    link, found = 1e9 if workers > 1 else 0.0, [[float(t)] for t in took]
    measured = Measured(wall=found, cpu=[[0.0]] * len(found), flops=5e10, bandwidth=1e10, link=link, threads=2)
    k = fitted(CASES, measured, workers, "fp32")
    new = works(SHAPES, workers, "fp32")
    assert np.allclose(seconds(new, k, 5e10, 1e10).step, seconds(new, TRUE, 5e10, 1e10).step, rtol=1e-6)


@pytest.mark.fast
def test_what_other_processes_take_is_not_in_the_calibration_of_one_rank() -> None:
    """Steps take five times as long as they compute, and a second more, on a machine that others use."""
    took = seconds(works(CASES, 1, "fp32"), TRUE, 5e10, 1e10).step
    busy = Measured([[5 * t + 1] for t in took], [[float(t)] for t in took], 5e10, 1e10, 0.0, threads=1)
    assert busy.had < 0.2
    new = works(SHAPES, 1, "fp32")
    k = fitted(CASES, busy, 1, "fp32")
    assert np.allclose(seconds(new, k, 5e10, 1e10).step, seconds(new, TRUE, 5e10, 1e10).step, rtol=1e-6)


@pytest.mark.fast
def test_waiting_for_other_ranks_is_part_of_every_step() -> None:
    """CPU seconds have neither what is sent nor 3 ms of waiting in them; both are in the steps of two ranks."""
    link, work = replace(TRUE, intra=1e9), works(CASES, 2, "fp32")
    whole = seconds(work, replace(link, overhead_s=link.overhead_s + 3e-3), 5e10, 1e10).step
    alone = seconds(work, replace(link, intra=np.inf), 5e10, 1e10).step
    two = Measured([[float(t)] for t in whole], [[float(t)] for t in alone], 5e10, 1e10, 1e9, threads=1)
    new = works(SHAPES, 2, "fp32")
    expected = seconds(new, replace(link, overhead_s=link.overhead_s + 3e-3), 5e10, 1e10).step
    k = fitted(CASES, two, 2, "fp32")
    assert np.allclose(seconds(new, k, 5e10, 1e10).step, expected, rtol=1e-6)


@pytest.mark.fast
def test_a_plan_takes_the_calibration_of_its_precision(tmp_path: Path) -> None:
    line = {"workload": "plan", "workers": 2, "threads": 1, "precision": "bf16", "flops": 7e10, "bandwidth": 2e10}
    file = tmp_path / "bench.jsonl"
    file.write_text(json.dumps(line | {"constants": asdict(TRUE)}) + "\n")
    cpu = ACCELERATORS["cpu"]
    found = calibrated(cpu, str(file), "bf16")
    assert (found.flops, found.bandwidth, found.constants) == (7e10, 2e10, TRUE)
    assert "2 workers" in found.measured
    assert calibrated(cpu, str(file), "fp32") == cpu
    assert calibrated(ACCELERATORS["h100"], str(file), "bf16") == ACCELERATORS["h100"]
    assert Speeds.of(str(file)) == Speeds()


@pytest.mark.fast
def test_a_calibration_that_lacks_a_constant_is_answered_with_its_line(tmp_path: Path) -> None:
    line = {"workload": "plan", "precision": "fp32", "flops": 1.0, "bandwidth": 1.0, "constants": {}}
    (tmp_path / "b.jsonl").write_text("\n" + json.dumps(line))
    with pytest.raises(UserError, match=r"plan.bench: .*b.jsonl, line 2 .*raypt bench plan"):
        calibrated(replace(ACCELERATORS["cpu"]), str(tmp_path / "b.jsonl"), "fp32")
