"""Muon over ZeRO's cuts: the matrices it sees are whole, whatever the stage and the number of ranks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.parallel import cases
from tests.parallel.ranks import run_ranks

CASES = "tests.parallel.cases"
STAGES = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("muon")


@pytest.fixture(scope="module")
def two(checkpoints: Path) -> list[Any]:
    arguments = {"checkpoints": str(checkpoints), "restore_from": None, "kind": "muon"}
    return run_ranks(2, CASES, "every_stage", checkpoints, **arguments)


@pytest.fixture(scope="module")
def one(two: list[Any], checkpoints: Path) -> list[Any]:
    """One rank, which also resumes what two ranks wrote at another stage."""
    arguments = {"checkpoints": str(checkpoints), "restore_from": str(checkpoints), "kind": "muon"}
    return run_ranks(1, CASES, "every_stage", checkpoints, **arguments)


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    return np.array(cases.reference(cases.OPTIMIZERS["muon"]))


# The five iterations multiply a small singular value by up to 3.4445^5 = 485, and with it the rounding (1e-7) that the
# order of summation leaves in a gradient: directions that hardly matter move by 5e-5 of an update. Measured on the
# losses and the norms over these steps: 2e-7.
LOSS, NORM = 1e-6, 1e-5


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("world", [1, 2])
def test_every_stage_equals_one_process(
    stage: int, world: int, reference: np.ndarray, request: pytest.FixtureRequest
) -> None:
    run = np.array(request.getfixturevalue("two" if world == 2 else "one")[0][f"run-{stage}"])
    np.testing.assert_allclose(run[:, 0], reference[:, 0], rtol=LOSS)
    np.testing.assert_allclose(run[:, 1], reference[:, 1], rtol=NORM)


@pytest.mark.parametrize("stage", STAGES)
def test_resuming_is_bitwise(stage: int, two: list[Any]) -> None:
    assert two[0][f"resumed-{stage}"] == two[0][f"run-{stage}"][cases.SAVE_AT :]


@pytest.mark.parametrize("stage", STAGES)
def test_the_momentum_moves_to_another_stage_and_number_of_ranks(
    stage: int, one: list[Any], reference: np.ndarray
) -> None:
    moved = np.array(one[0][f"moved-{stage}"])
    np.testing.assert_allclose(moved[:, 0], reference[cases.SAVE_AT :, 0], rtol=LOSS)
    np.testing.assert_allclose(moved[:, 1], reference[cases.SAVE_AT :, 1], rtol=NORM)


@pytest.mark.parametrize("stage", STAGES)
def test_bf16_stays_within_its_rounding(stage: int, two: list[Any], reference: np.ndarray) -> None:
    """The bound of test_zero.py."""
    bf16 = np.array(two[0][f"bf16-{stage}"])
    np.testing.assert_allclose(bf16[:, 0], reference[:, 0], rtol=2**-8)


def test_it_is_another_optimizer_than_adamw(reference: np.ndarray) -> None:
    assert abs(reference[-1, 0] / np.array(cases.reference())[-1, 0] - 1) > 1e-3


def test_the_reference_is_clipped(reference: np.ndarray) -> None:
    assert (reference[:, 1] > (cases.OPTIMIZERS["muon"].clip_norm or torch.inf)).all()
