"""Which engine a run gets."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from raypt.errors import UserError
from raypt.training.config import TrainConfig
from raypt.training.engines import engine_factory
from raypt.training.records import read_metrics
from tests.parallel.ranks import run_ranks
from tests.training import tiny_run

FOREIGN = "tests.training.plain_engine:build"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("engines")
    tiny_run.prepare(root / "data")
    run_ranks(2, "tests.training.scenarios", "foreign_engine", root, data=str(root / "data"), root=str(root))
    return root


def losses(run: Path) -> np.ndarray:
    return np.array([row["loss"] for row in read_metrics(str(run))])


def test_a_users_engine_trains_as_raypts_own(runs: Path) -> None:
    # Sums in another order than DeepSpeed's: fp32 rounding, as between two numbers of workers (test_worker).
    np.testing.assert_allclose(losses(runs / "foreign"), losses(runs / "own"), rtol=1e-5)


def test_either_engine_goes_on_from_the_others_checkpoint(runs: Path) -> None:
    np.testing.assert_allclose(losses(runs / "to-own"), losses(runs / "own"), rtol=1e-5)
    np.testing.assert_allclose(losses(runs / "to-foreign"), losses(runs / "own"), rtol=1e-5)


def test_the_runs_are_of_a_whole_length(runs: Path) -> None:
    assert len(losses(runs / "own")) == tiny_run.STEPS


@pytest.mark.parametrize(
    ("strategy", "says"),
    [
        ("tests.training.no_such:build", "train.strategy=tests.training.no_such:build: there is no module"),
        ("tests.training.plain_engine:biuld", "did you mean build"),
        ("tests.training.tiny_run:STEPS", "must be a function"),
    ],
)
def test_a_strategy_that_is_no_engine_is_refused(strategy: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        engine_factory(strategy)


def test_a_word_that_is_neither_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        ValidationError,
        match=r"'colective' is neither collective nor .* nor package\.module:name",
    ):
        TrainConfig(strategy="colective")


def test_a_configuration_with_it_survives_its_own_file() -> None:
    config = TrainConfig(strategy=FOREIGN)
    assert TrainConfig.model_validate(json.loads(config.model_dump_json())) == config
