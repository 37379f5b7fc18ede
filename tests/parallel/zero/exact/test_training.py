"""With `train.reduction: exact` a run has the same bits on any number of workers and at any ZeRO stage. Whole:
`python -m tests.parallel.zero.exact.cases`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.parallel import meshes
from tests.parallel.ranks import run_ranks
from tests.parallel.zero.exact.cases import STEPS

CASES = "tests.parallel.zero.exact.cases"
PARTS = ((4, [1, 3], 2), (2, [0, 2], 4), (1, [0], STEPS - 1))
"""Ranks, the stages that they train (the last one goes on with the elastic run), and the step that it then stops at."""


@pytest.fixture(scope="module")
def tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exact")


@pytest.fixture(scope="module")
def runs(tmp: Path) -> dict[int, list[dict[str, Any]]]:
    path = str(tmp / "elastic")
    return {n: run_ranks(n, CASES, "everything", tmp, stages=s, path=path, last=last) for n, s, last in PARTS}


@pytest.fixture(scope="module")
def grown(runs: dict[int, list[dict[str, Any]]], tmp: Path) -> dict[str, Any]:
    """The end of the elastic run, on two ranks again. Depends on `runs`, whose last checkpoint it goes on from."""
    return run_ranks(2, CASES, "part", tmp, stage=1, path=str(tmp / "elastic"), last=STEPS)[0]


def test_losses_norms_weights_and_moments_are_the_same_bits_on_1_2_and_4_ranks_at_other_stages(
    runs: dict[int, list[dict[str, Any]]],
) -> None:
    want = runs[1][0]["trained"][0]
    for ranks in runs.values():
        for rank in ranks:
            assert all(got == want for got in rank["trained"])


def test_so_are_they_in_bf16(runs: dict[int, list[dict[str, Any]]]) -> None:
    assert all(rank["bf16"] == runs[1][0]["bf16"] for rank in runs[2])


def test_a_run_that_went_from_4_ranks_to_2_to_1_and_to_2_again_ends_with_the_bits_of_one_that_did_not(
    runs: dict[int, list[dict[str, Any]]], grown: dict[str, Any]
) -> None:
    want = runs[1][0]["trained"][0]
    rows = [row for world in (4, 2, 1) for row in runs[world][0]["part"]["rows"]]
    assert rows + grown["rows"] == want["rows"]
    assert grown["state"] == want["state"]


def test_losses_and_norms_are_those_of_plain_torch(runs: dict[int, list[dict[str, Any]]]) -> None:
    rows, _ = meshes.reference("gqa", "groups", STEPS)
    got = np.array(runs[2][0]["trained"][0]["rows"])
    np.testing.assert_allclose(got[:, 0], np.array(rows)[:, 0], rtol=1e-6)
    np.testing.assert_allclose(got[:, 1], np.array(rows)[:, 1], rtol=1e-5)
