"""Training with sequences cut over ranks is that of one process. Beside other axes: `tests/parallel/tensor`.

Whole: `python -m tests.parallel.meshes --only cp`."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from tests.parallel import meshes
from tests.parallel.meshes import Cell
from tests.parallel.ranks import run_ranks

STEPS = 4
"""The whole grid takes ten."""
TWO = [
    Cell(context=2, stage=0, checkpointing="selective"),
    Cell(context=2, stage=1, model="mqa", checkpointing="full"),
    Cell(context=2, stage=2, model="untied", zero={"offload_optimizer": "cpu"}),
    Cell(context=2, stage=1, model="untied", optimizer="muon"),
    Cell(context=2, stage=3),
]
MOVES = [Cell(data=2, stage=3), Cell(context=2, stage=1), Cell(data=2, stage=0), Cell(context=2, stage=3)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    tmp = tmp_path_factory.mktemp("two")
    cells, moves = ([asdict(cell) for cell in some] for some in (TWO, MOVES))
    arguments = {"cells": cells, "steps": STEPS, "moves": moves, "path": str(tmp)}
    return run_ranks(2, "tests.parallel.context.cases", "everything", tmp, **arguments)


@pytest.mark.parametrize("index", range(len(TWO)), ids=[str(cell) for cell in TWO])
def test_losses_norms_weights_and_evaluation_are_those_of_one_process_and_a_nan_on_one_rank_is_skipped_by_all(
    index: int, two: list[dict[str, Any]]
) -> None:
    meshes.check(TWO[index], [rank["trained"][index] for rank in two])


def test_a_run_moves_between_replicas_and_cut_sequences_and_goes_on_as_if_undisturbed(
    two: list[dict[str, Any]],
) -> None:
    got, (rows, _) = np.array(two[0]["moved"]), meshes.reference("gqa")
    np.testing.assert_allclose(got[:, 0], np.array(rows)[:, 0], rtol=1e-6)
    np.testing.assert_allclose(got[:, 1], np.array(rows)[:, 1], rtol=1e-5)
