"""Training with layers cut over ranks is that of one process. The whole grid: `python -m tests.parallel.meshes`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raypt.model import Llama, load_hf
from raypt.model.hf import export_hf
from raypt.training.checkpoint.directory import latest_checkpoint
from raypt.training.checkpoint.reader import CheckpointReader
from raypt.training.export import blocks_of
from tests.parallel import meshes
from tests.parallel.meshes import Cell
from tests.parallel.ranks import run_ranks

STEPS = 4
TWO = [
    Cell(pipeline=2, stage=0, model="untied", schedule="gpipe"),
    Cell(pipeline=2, stage=0, model="untied", schedule="1f1b"),
    Cell(pipeline=2, stage=1, model="mqa", schedule="1f1b", checkpointing="full"),
    Cell(
        pipeline=2, stage=0, model="untied", schedule="interleaved_1f1b", checkpointing="selective", stages=(1, 2, 1, 0)
    ),
    Cell(pipeline=2, stage=0, model="untied", schedule="zero_bubble"),
    Cell(pipeline=2, stage=1, model="mqa", schedule="zero_bubble", virtual=2, checkpointing="full"),
    Cell(pipeline=2, stage=1, model="untied", schedule="interleaved_1f1b", zero={"offload_optimizer": "cpu"}),
    Cell(pipeline=2, stage=0, model="untied", schedule="zero_bubble", virtual=2),
    Cell(pipeline=2, stage=0, model="untied", schedule="zero_bubble", precision="bf16"),
]
FOUR = [Cell(pipeline=2, tensor=2, stage=1, model="untied"), Cell(pipeline=2, data=2, stage=0, model="mqa")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Results by cell and rank."""
    out: dict[str, list[dict[str, Any]]] = {}
    for cells in (TWO, FOUR):
        root = tmp_path_factory.mktemp("trained")
        by_rank = meshes.launch(cells, root, STEPS)
        for rank in by_rank:
            for i, cell in enumerate(cells):
                rank[i]["saved"] = root / str(cell)
        out |= {str(cell): [rank[i] for rank in by_rank] for i, cell in enumerate(cells)}
    return out


@pytest.mark.parametrize("cell", TWO + FOUR, ids=str)
def test_losses_norms_weights_and_evaluation_are_those_of_one_process_and_a_nan_on_one_rank_is_skipped_by_all(
    cell: Cell, trained: dict[str, Any]
) -> None:
    meshes.check(cell, trained[str(cell)])


def test_gpipe_holds_all_micro_batches_and_the_others_as_many_as_devices(trained: dict[str, Any]) -> None:
    """Of 8 micro-batches on two devices. Zero-bubble keeps beside them what weights wait for of one at a time; on the
    last device it puts one micro-batch's off. Of two parts a device, the interleaved schedule has five and three under
    way at a time, zero-bubble four; the boundary between the two is held besides.
    """
    cells = [cell for cell in TWO if cell.checkpointing == "none" and cell.precision == "fp32"]
    held = {(cell.schedule, cell.virtual): trained[str(cell)][0]["peaks"] for cell in cells}
    first, last = (peak / 8 for peak in held["gpipe", None])
    assert held["1f1b", None] == pytest.approx([2 * first, last], rel=1e-3)
    assert held["zero_bubble", None][0] == pytest.approx(2 * first, rel=0.03)
    assert last < held["zero_bubble", None][1] < 2 * last
    assert held["interleaved_1f1b", None] == pytest.approx([2.5 * first, 1.5 * last], rel=0.05)
    assert held["zero_bubble", 2][0] == pytest.approx(2 * first, rel=0.05)
    assert last < held["zero_bubble", 2][1] < 2 * last


@pytest.mark.parametrize("cell", [FOUR[0], TWO[3]], ids=str)
def test_what_a_mesh_has_saved_is_exported_as_one_process_would(
    cell: Cell, trained: dict[str, Any], tmp_path: Path
) -> None:
    info = latest_checkpoint(str(trained[str(cell)][0]["saved"]))
    assert info is not None
    model = meshes.MODELS[cell.model]
    export_hf(model, blocks_of(CheckpointReader(info), model), str(tmp_path))
    exported = load_hf(str(tmp_path)).state_dict()
    alone = Llama(model).initialise(0).state_dict()
    assert exported.keys() == alone.keys()
    assert all(torch.equal(exported[name], value) for name, value in alone.items())


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[float]]]:
    """Where each cell of a run has left its checkpoint, and the run's steps."""
    tmp = tmp_path_factory.mktemp("moved")
    cells = [
        Cell(data=2, stage=3, model="untied"),
        Cell(pipeline=2, stage=1, model="untied", stages=(3, 1)),
        Cell(tensor=2, stage=2, model="untied"),
        Cell(pipeline=2, stage=0, model="untied", schedule="zero_bubble", stages=(4, 0)),
        Cell(data=2, stage=1, model="untied"),
    ]
    got = run_ranks(2, "tests.parallel.meshes", "chain", tmp, cells=[asdict(c) for c in cells], path=str(tmp))
    return tmp, got[0]


def test_a_run_moves_between_pipelines_and_other_meshes_and_goes_on_as_if_undisturbed(
    moved: tuple[Path, list[list[float]]],
) -> None:
    got, (rows, _) = np.array(moved[1]), meshes.reference("untied")
    np.testing.assert_allclose(got[:, 0], np.array(rows)[:, 0], rtol=1e-6)
    np.testing.assert_allclose(got[:, 1], np.array(rows)[:, 1], rtol=1e-5)


def test_one_process_goes_on_from_what_tensor_and_pipeline_ranks_have_saved(
    moved: tuple[Path, list[list[float]]], tmp_path: Path
) -> None:
    """With the moments of all elements, which decide the second step."""
    before = {1: 0, 2: 3, 3: 1}
    """Cells of the run by their number (two pipelines and a tensor cut), and the stage of the one process."""
    cells = [asdict(Cell(stage=stage, model="untied")) for stage in before.values()]
    arguments = {"cells": cells, "sources": [str(moved[0] / str(i)) for i in before], "steps": 2}
    (got,) = run_ranks(1, "tests.parallel.meshes", "go_on", tmp_path, **arguments)
    rows, _ = meshes.reference("untied")
    for i, run in zip(before, got, strict=True):
        assert run["first"] == 2 * (i + 1)
        assert run["moments"] == 2 * meshes.MODELS["untied"].parameters()
        true = np.array(rows)[run["first"] : run["first"] + 2]
        np.testing.assert_allclose(np.array(run["rows"])[:, 0], true[:, 0], rtol=1e-6)
        np.testing.assert_allclose(np.array(run["rows"])[:, 1], true[:, 1], rtol=1e-5)
