"""The workers that have trained a model write a text with it before they go, and may fail at that."""

from pathlib import Path

import pytest
import torch

from raypt import storage
from raypt.model import load_hf
from raypt.run.sample import NAME, PROMPTS, write_sample
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.training.checkpoint.directory import latest_checkpoint
from raypt.training.export import export_checkpoint
from raypt.training.judged import WholeModel
from tests.parallel.ranks import run_ranks
from tests.training import afterwards_cases, tiny_run
from tests.training.afterwards_cases import KINDS

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    tiny_run.prepare(data)
    return data


@pytest.fixture(scope="module")
def ranks(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, list[int]]]]:
    root = tmp_path_factory.mktemp("ranks")
    return root, run_ranks(2, "tests.training.afterwards_cases", "on_ranks", root, data=str(data), root=str(root))


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_is_what_one_process_writes_that_holds_all_of_the_last_checkpoint(
    kind: str, ranks: tuple[Path, list[dict[str, list[int]]]], data: Path, tmp_path: Path
) -> None:
    run = ranks[0] / kind
    info = latest_checkpoint(str(run / "checkpoints"))
    assert info is not None and info.step == afterwards_cases.STEPS
    export_checkpoint(info, str(data / "tokenizer"), str(tmp_path / "export"))
    model = WholeModel(load_hf(str(tmp_path / "export")), tiny_run.LENGTH, 1)
    origin = {"checkpoint": info.name, "precision": "fp32"}
    tokenizer = Tokenizer.load(str(data / "tokenizer"))
    write_sample(model, tokenizer, uri=str(tmp_path / NAME), prompts=PROMPTS, seed=0, origin=origin)
    written = storage.read_json(str(run / NAME))
    assert written == storage.read_json(str(tmp_path / NAME))
    assert all(entry["text"] for entry in written)


@pytest.mark.parametrize("kind", KINDS)
def test_what_training_held_is_free_by_then(kind: str, ranks: tuple[Path, list[dict[str, list[int]]]]) -> None:
    """What is left of one kind would be seen in the next. A tenth is for what is no weight."""
    held, weights = ranks[1][0][kind]
    assert weights <= held < 1.1 * weights


def test_a_rank_that_fails_alone_ends_it_for_all_and_the_training_stays(data: Path, tmp_path: Path) -> None:
    arguments = {"data": str(data), "root": str(tmp_path)}
    assert run_ranks(2, "tests.training.afterwards_cases", "one_fails", tmp_path, **arguments) == [False, False]
    assert not (tmp_path / "failed" / NAME).exists()
    info = latest_checkpoint(str(tmp_path / "failed" / "checkpoints"))
    assert info is not None and info.step == afterwards_cases.STEPS
