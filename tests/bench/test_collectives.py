"""Collectives are compared with their definitions on every rank, and timed."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from raypt.bench import collectives
from raypt.bench.collective_rank import Measured
from raypt.bench.collective_start import sizes_of
from raypt.bench.collective_table import page, printed, rows_of
from raypt.bench.primitives import PRIMITIVES
from raypt.errors import UserError
from tests.parallel.ranks import run_ranks

CASES = "tests.bench.collective_cases"
KEYS = {"primitive", "backend", "ranks", "bytes", "correct", "latency_s", "algorithm_bandwidth", "bus_bandwidth"}


def test_gloo_has_every_primitive_right_on_three_ranks(tmp_path: Path) -> None:
    """Three: sizes do not divide evenly, and a rank is neither the first nor the last."""
    found = run_ranks(3, CASES, "every_primitive", tmp_path, sizes=[1000, 70_000])
    for of_rank in found:
        assert [m["primitive"] for m in of_rank] == [n for n in PRIMITIVES for _ in range(2 if n != "barrier" else 1)]
        assert all(m["correct"] and m["seconds"] > 0 and m["lacks"] is None for m in of_rank)


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return run_ranks(2, CASES, "faults", tmp_path_factory.mktemp("faults"))


def test_the_smallest_change_of_one_element_on_one_rank_is_found(faults: list[Any]) -> None:
    ranks = [of_rank["wrong"] for of_rank in faults]
    for name in PRIMITIVES.keys() - {"barrier"}:
        spoilt = 0 if name in ("gather", "reduce") else 1
        assert ranks[spoilt][name] == [True, False, True, False], name
        assert ranks[1 - spoilt][name] == [True] * 4, name


def test_a_barrier_that_does_not_hold_is_wrong(faults: list[Any]) -> None:
    assert False in [of_rank["barrier"] for of_rank in faults]


def test_what_a_backend_lacks_is_said_and_the_rest_is_measured(faults: list[Any]) -> None:
    by_rank = [[Measured(**m) for m in of_rank["lacking"]] for of_rank in faults]
    rows = rows_of("gloo", by_rank)
    assert [(r["primitive"], r["correct"]) for r in rows] == [
        ("all_to_all", None), ("broadcast", True), ("broadcast", True),
    ]  # fmt: skip
    assert "all_to_all: not in this backend: Backend gloo does not support all_to_all" in printed("t", rows)
    assert "not in this backend" in page("t", [("gloo", rows)])


@pytest.mark.parametrize(
    ("primitive", "factor"),
    [
        ("broadcast", 1.0), ("reduce", 1.0), ("send_recv", 1.0), ("all_reduce", 1.5), ("all_gather", 0.75),
        ("reduce_scatter", 0.75), ("gather", 0.75), ("scatter", 0.75), ("all_to_all", 0.75),
    ],
)  # fmt: skip
def test_bandwidths_are_those_of_nccl_tests(primitive: str, factor: float) -> None:
    """Of four ranks; the slowest one's time counts, and one wrong rank makes the row wrong."""
    of_rank = [Measured(primitive, 8000, correct=r != 2, seconds=0.001 * (1 + r)) for r in range(4)]
    (row,) = rows_of("gloo", [[m] for m in of_rank])
    assert row["latency_s"] == 0.004
    assert row["algorithm_bandwidth"] == pytest.approx(2e6)
    assert row["bus_bandwidth"] == pytest.approx(factor * 2e6)
    assert row["correct"] is False


def test_sizes_are_a_range_or_a_list() -> None:
    assert sizes_of("1KiB..256MiB") == [1024 * 4**i for i in range(10)]
    assert sizes_of("64,3MiB") == [64, 3 * 2**20]
    for wrong in ("1KB", "0", "2MiB..1KiB", ""):
        with pytest.raises(UserError, match="--sizes"):
            sizes_of(wrong)


@pytest.mark.ray
def test_ray_actors_give_the_list_and_the_picture(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "page.html"
    arguments = ["--ranks", "2", "--sizes", "1KiB..4KiB", "--json", "--page", str(picture)]
    assert collectives.main(arguments) == 0
    out = capfd.readouterr()
    rows: list[dict[str, Any]] = json.loads(out.out.splitlines()[-1])
    assert [r.keys() for r in rows] == [KEYS] * (2 * (len(PRIMITIVES) - 1) + 1)
    assert all(r["correct"] is True and r["ranks"] == 2 and math.isfinite(r["bus_bandwidth"]) for r in rows)
    assert "gloo, 2 ranks on 1 node" in out.err
    # A line a primitive that moves bytes, drawn for a desk and for a phone.
    assert picture.read_text().count("<polyline") == 2 * (len(PRIMITIVES) - 1)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "glo"], "--backend glo: there are gloo, nccl, mpi"),
        (["--ranks", "1"], "needs two"),
        (["--primitives", "sum"], "--primitives sum"),
        (["--backend", "mpi", "--mpirun", "no-such-mpirun"], "no-such-mpirun"),
    ],
)
def test_a_mistake_is_said(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "mpi" in arguments:
        pytest.importorskip("mpi4py")
    assert collectives.main(arguments) == 2
    assert message in capsys.readouterr().err
