"""Training with matrices cut over ranks is that of one process. The whole grid: `python -m tests.parallel.meshes`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.parallel import meshes
from tests.parallel.meshes import BEFORE, Cell
from tests.parallel.ranks import run_ranks

STEPS = 4
"""The whole grid takes ten."""
COMPILED_STEPS = 2
TWO = [
    Cell(tensor=2, stage=0, checkpointing="selective"),
    Cell(tensor=2, stage=1, model="mqa", sequence_parallel=False, checkpointing="full"),
    Cell(tensor=2, stage=2, zero={"offload_optimizer": "cpu"}),
    Cell(tensor=2, stage=3),
    Cell(tensor=2, stage=3, model="untied", zero={"offload_params": "cpu"}),
    Cell(tensor=2, stage=1, model="untied", precision="bf16"),
    Cell(tensor=2, stage=0, model="untied", optimizer="muon"),
    Cell(tensor=2, stage=3, model="untied", optimizer="muon"),
]
FOUR = [
    Cell(tensor=4, stage=2),
    Cell(tensor=2, data=2, stage=3),
    Cell(context=2, tensor=2, stage=1, model="mqa"),
    Cell(context=2, data=2, stage=3),
    Cell(context=2, pipeline=2, stage=1, model="mqa"),
]
"""Four ranks, also cut along other axes: a launch costs more than a cell."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Results by cell and rank."""
    out = {}
    for cells in (TWO, FOUR):
        by_rank = meshes.launch(cells, tmp_path_factory.mktemp("trained"), STEPS)
        out |= {str(cell): [rank[i] for rank in by_rank] for i, cell in enumerate(cells)}
    return out


@pytest.mark.parametrize("cell", TWO + FOUR, ids=str)
def test_losses_norms_weights_and_evaluation_are_those_of_one_process_and_a_nan_on_one_rank_is_skipped_by_all(
    cell: Cell, trained: dict[str, Any]
) -> None:
    meshes.check(cell, trained[str(cell)])


def test_compiled_blocks_give_the_losses_of_one_process(tmp_path: Path) -> None:
    """The crossings lie between their graphs. The bounds of `tests/parallel/zero/test_options.py`."""
    cell = Cell(tensor=2, stage=1, compiled=True)
    ranks = run_ranks(2, "tests.parallel.meshes", "compiled", tmp_path, cell=asdict(cell), steps=COMPILED_STEPS)
    rows, _ = meshes.reference("gqa", steps=COMPILED_STEPS)
    for rank in ranks:
        assert rank["frames"] > 0
        np.testing.assert_allclose(np.array(rank["rows"])[:, 0], np.array(rows)[:, 0], rtol=1e-6)
        np.testing.assert_allclose(np.array(rank["rows"])[:, 1], np.array(rows)[:, 1], rtol=1e-5)
        np.testing.assert_allclose(rank["losses"], meshes.evaluated(cell, COMPILED_STEPS), rtol=1e-5)


def test_a_run_of_one_process_moves_between_meshes_and_stages_and_goes_on_as_if_undisturbed(tmp_path: Path) -> None:
    alone, source = [asdict(Cell(stage=1))], str(tmp_path / "alone")
    (one,) = run_ranks(1, "tests.parallel.meshes", "chain", tmp_path, cells=alone, path=source, last=BEFORE)
    cells = [
        Cell(tensor=2, stage=1),
        Cell(data=2, stage=3),
        Cell(tensor=2, stage=3),
        Cell(data=2, stage=0),
        Cell(tensor=2, stage=0, sequence_parallel=False),
    ]
    arguments = {"cells": [asdict(c) for c in cells], "path": str(tmp_path), "first": BEFORE, "source": f"{source}/0"}
    two, _ = run_ranks(2, "tests.parallel.meshes", "chain", tmp_path, **arguments)
    rows, _ = meshes.reference("gqa")
    np.testing.assert_allclose(np.array(one + two)[:, 0], np.array(rows)[:, 0], rtol=1e-6)
    np.testing.assert_allclose(np.array(one + two)[:, 1], np.array(rows)[:, 1], rtol=1e-5)
