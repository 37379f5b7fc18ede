"""Faults, sense, the data side: by hand, by simulation, and beside the papers."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from raypt.errors import UserError
from raypt.run.planner.data_side import Speeds, data_side
from raypt.run.planner.goodput import daly, goodput, staying_up, young
from raypt.run.planner.sense import findings, loss_of, worth


def simulated(interval: float, cost: float, between: float, restart: float, work: float, seed: int) -> float:
    """Share of the wall time that is new work, faults drawn from a Poisson process."""
    random = np.random.default_rng(seed)
    wall = done = 0.0
    until = random.exponential(between)
    while done < work:
        if until >= interval + cost:
            wall, done, until = wall + interval + cost, done + interval, until - interval - cost
            continue
        wall += until
        until = random.exponential(between)
        while until < restart:  # a fault in the restart
            wall += until
            until = random.exponential(between)
        wall, until = wall + restart, until - restart
    return done / wall


def test_goodput_is_that_of_a_simulated_run() -> None:
    interval, cost, between, restart = 900.0, 30.0, 7200.0, 300.0
    found = np.mean([simulated(interval, cost, between, restart, 3e6, seed) for seed in range(5)])
    # 5 runs of some 400 faults: the share's standard error is below 0.003.
    assert goodput(interval, cost, between, restart) == pytest.approx(found, abs=0.01)


def test_no_interval_beats_dalys_by_more_than_a_thousandth() -> None:
    for cost, between in ((1.0, 3600.0), (30.0, 7200.0), (120.0, 3600.0)):
        best = max(goodput(x, cost, between, 300.0) for x in np.geomspace(cost / 4, 4 * between, 4000))
        assert goodput(daly(cost, between), cost, between, 300.0) >= best - 1e-3
    assert young(30.0, 7200.0) == pytest.approx(math.sqrt(2 * 30 * 7200))


def test_llama_3s_faults() -> None:
    """419 faults in 54 days on 16,384 devices: one in about 3 hours."""
    up = staying_up(
        405_000_000_000, 16_384, 2048, 20.0,
        faults_per_device_day=4.7e-4, restart_s=600.0, node_bandwidth=1e9, background=True,
    )  # fmt: skip
    assert up.between_faults_s / 3600 == pytest.approx(54 * 24 / 419, rel=0.02)
    assert 0.85 < up.goodput < 1.0  # the paper: more than 90 % effective training time
    without = staying_up(
        405_000_000_000, 16_384, 2048, 20.0,
        faults_per_device_day=0.0, restart_s=600.0, node_bandwidth=1e9, background=True,
    )  # fmt: skip
    assert without.to_json()["mean_time_between_faults_s"] is None and without.goodput > 0.999


def test_repetition_is_worth_what_muennighoff_found() -> None:
    assert worth(1e9, 1e9) == 1e9
    assert worth(1e9, 4e9) / 4e9 > 0.9  # up to four epochs nearly as good as new
    assert worth(1e9, 60e9) / 60e9 < 0.35
    assert worth(1e9, 1e15) == pytest.approx(16.39e9, rel=1e-3)  # at most 1 + R* times the data


def test_chinchillas_own_run_is_at_its_optimum() -> None:
    """70 B parameters on 1.4 T tokens beat Gopher's 280 B on 300 B at about the same compute."""
    assert loss_of(70e9, 1.4e12) < loss_of(280e9, 0.3e12)
    found = {f.name: f for f in findings(70_000_000_000, 1.4e12, 0.35e12, 6 * 70e9 * 1.4e12, 1e-4, 3_000_000)}
    assert found["tokens a parameter"].inside and found["epochs over the data"].value == 4
    assert not {f.name: f for f in findings(10**9, 1e9, None, 6e18, 3e-4, 10**6)}["tokens a parameter"].inside
    assert all(f.source and f.uncertainty for f in found.values())


def test_the_data_side_adds_up() -> None:
    speeds = Speeds(curate=1e6, dedup=2e6, tokenize=4e6)
    side = data_side(
        1e9, 1e5, 1e4, 2, 50_000, 1e9, speeds=speeds, raw_bytes=None, kept=0.25, bytes_per_token=4.0, checkpoints=3
    )
    assert side.raw_bytes == 16e9 and side.curated_bytes == 4e9
    assert side.cpu_hours == {"curate": 16e9 / 1e6 / 3600, "dedup": 8e9 / 1e6 / 3600, "tokenize": 1e9 / 1e6 / 3600}
    assert side.cores_beside == pytest.approx(1.25 * 1e5 * 4 / 4e6)
    assert side.storage_bytes["checkpoints"] == 3e9 and side.storage_bytes["token store"] == pytest.approx(2.1e9)


def test_ones_own_bench_replaces_the_shipped_speeds(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text(json.dumps({"speeds": {"curate": 5e6, "tokenize": 9e6}}))
    speeds = Speeds.of(str(tmp_path / "bench.json"))
    assert (speeds.curate, speeds.tokenize, speeds.dedup) == (5e6, 9e6, Speeds().dedup)
    for bad, message in (({"x": 1}, "has none of curate"), ({"curate": -1}, "curate must be a positive number")):
        (tmp_path / "bad.json").write_text(json.dumps(bad))
        with pytest.raises(UserError, match=f"plan.bench: .*{message}"):
            Speeds.of(str(tmp_path / "bad.json"))
    with pytest.raises(UserError, match=r"plan.bench: cannot read .*none\.json"):
        Speeds.of(str(tmp_path / "none.json"))
